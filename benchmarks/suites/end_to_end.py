"""A window of frames to frames: prepare, denoise and decode apart, video I/O apart, memory apart.

The clip is one window long, so that its time is the latency to the first finished window too.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.clip import FRAME_RATE, pan_for
from benchmarks.clip_run import ClipRun, request_for, run_clip
from benchmarks.contenders import BASELINE, contender_names
from benchmarks.context import Context
from benchmarks.fresh_process import ClipJob, run_in_fresh_process
from benchmarks.measure import Contender, compare, measure, psnr_of
from benchmarks.roofline import boundary_bytes, clip_work
from benchmarks.schema import Case, Verification
from hero_export.verify import THRESHOLDS
from hero_rt.engines.engine import EngineSet
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile
from hero_rt.video import create_video, open_video

# the run that is verified warms up; on a GPU one more, as engines capture their graph in their second
WARMUP, REPEATS = {"cpu": 0, "cuda": 1}, 5
MEMORY_STEPS = 2  # memory does not grow with the steps


def run(context: Context) -> Iterator[Case]:
    settings = context.settings
    sets = context.open(contender_names(settings, compiled=False))
    for profile in settings.profiles():
        here = {name: engines for name, engines in sets.items() if opens(context, name, engines, profile)}
        seen = {name: peak_memory(context, name, engines, profile) for name, engines in here.items()}
        memory = {name: figures for name, figures in seen.items() if figures is not None}
        here = {name: here[name] for name in memory}
        for steps in settings.steps:
            yield measure_clip(context, profile, steps, here, memory)
    for engines in sets.values():
        engines.close()


def opens(context: Context, name: str, engines: EngineSet, profile: Profile) -> bool:
    """Whether all six engines can be had here; why not is reported."""
    opened = context.attempt(
        f"{name} {profile}", lambda: [engines.open(submodule, profile) for submodule in SUBMODULES]
    )
    return opened is not None


def peak_memory(context: Context, name: str, engines: EngineSet, profile: Profile) -> dict[str, float] | None:
    """Of a run in a fresh process: weights, what crosses submodules' boundaries, and scratch, the rest of the peak.

    None where it fails, which is reported.
    """
    settings = context.settings
    folder = context.folder(engines, profile)
    job = ClipJob(settings, name, folder, profile, profile.frames, MEMORY_STEPS, "joint", warm=False)
    seen = context.attempt(f"{name} {profile}", partial(run_in_fresh_process, job))
    if seen is None:
        return None
    boundary = boundary_bytes(settings.preset, settings.dtype, profile)
    return {
        "peak_bytes": seen.peak_bytes,
        "weights_bytes": seen.weights_bytes,
        "boundary_bytes": boundary,
        "scratch_bytes": max(0, seen.peak_bytes - seen.weights_bytes - boundary),
    }


def measure_clip(
    context: Context,
    profile: Profile,
    steps: int,
    sets: dict[str, EngineSet],
    memory: dict[str, dict[str, float]],
) -> Case:
    settings = context.settings
    clip, frame = pan_for(profile, profile.frames)
    request = request_for(frame, profile, steps)
    want = run_clip(context.truth, clip, request)
    thresholds, warmup = THRESHOLDS[settings.dtype], WARMUP[context.device.type]

    def check(got: ClipRun) -> Verification:
        seen = compare(got.latents, want.latents, thresholds.latents, context.truth_name)
        seen.psnr_db = psnr_of(got.frames, want.frames)
        seen.passed = seen.passed and seen.psnr_db >= thresholds.psnr
        return seen

    runs: dict[str, list[ClipRun]] = {name: [] for name in sets}

    def caller(name: str) -> Callable[[], ClipRun]:
        def call() -> ClipRun:
            runs[name].append(run_clip(sets[name], clip, request))
            return runs[name][-1]

        return call

    def figures(name: str) -> dict[str, float]:
        timed = runs[name][1 + warmup :]  # the first was verified, not timed
        phases = {
            f"{phase}_s": median(getattr(run, phase) for run in timed) for phase in ("prepare", "denoise", "decode")
        }
        return phases | memory[name] | video

    video = video_io(want.frames, clip.stack())
    return measure(
        context,
        f"{settings.preset} {profile} {settings.dtype} {steps} steps",
        {name: Contender(caller(name), check, partial(figures, name)) for name in sets},
        baseline=BASELINE,
        clock=context.host_clock,
        warmup=warmup,
        repeats=REPEATS,
        work=clip_work(settings.preset, settings.dtype, profile, steps),
    )


def video_io(result: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """Seconds to decode the source's window from H.264, and to encode the result's. Engines have no part in it."""
    reads, writes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(3):
            path = Path(folder) / f"source{turn}.mp4"
            with create_video(path, source.shape[2], source.shape[1], FRAME_RATE) as writer:
                writer.write(source)
            started = time.perf_counter()
            with open_video(path) as video:
                assert len(list(video.frames())) == len(source)
            reads.append(time.perf_counter() - started)
            started = time.perf_counter()
            with create_video(
                Path(folder) / f"result{turn}.mp4", result.shape[2], result.shape[1], FRAME_RATE
            ) as writer:
                writer.write(result)
            writes.append(time.perf_counter() - started)
    return {"video_read_s": median(reads), "video_write_s": median(writes)}
