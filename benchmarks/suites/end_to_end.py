"""A window of frames to frames: prepare, denoise and decode apart, video I/O apart, memory apart.

The clip is one window long, so that its time is the latency to the first finished window too.
"""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.clip import FRAME_RATE, ClipRun, pan_for, request_for, run_clip
from benchmarks.context import Context
from benchmarks.fresh_process import ClipJob, run_in_fresh_process
from benchmarks.measure import Contender, compare, measure
from benchmarks.roofline import boundary_bytes
from benchmarks.schema import Case, Verification
from benchmarks.timing import Clock
from hero_export.verify import psnr_of
from hero_rt.engines.engine import EngineSet
from hero_rt.spec.profile import Profile
from hero_rt.video import create_video, open_video

# the run that is verified warms up; on a GPU one more, as engines capture their graph in their second
WARMUP, REPEATS = {"cpu": 0, "cuda": 1}, 5
MEMORY_STEPS = 2  # memory does not grow with the steps
VIDEO_RUNS = 3


def run(context: Context) -> Iterator[Case]:
    with context.contenders() as sets:
        for profile in context.settings.profiles():
            memory = {}
            for name, engines in sets.items():
                look = partial(peak_memory, context, name, engines, profile)
                if context.opens(name, engines, profile) and (seen := context.attempt(f"{name} {profile}", look)):
                    memory[name] = seen
            for steps in context.settings.steps:
                yield measure_clip(context, profile, steps, {name: sets[name] for name in memory}, memory)


def peak_memory(context: Context, name: str, engines: EngineSet, profile: Profile) -> dict[str, float]:
    """Of a run in a fresh process: weights, what crosses submodules' boundaries, and scratch, the rest of the peak."""
    settings = context.settings
    folder = context.folder(engines, profile)
    seen = run_in_fresh_process(ClipJob(settings, name, folder, profile, profile.frames, MEMORY_STEPS, "joint"))
    boundary = boundary_bytes(settings.preset, settings.dtype, profile)
    scratch = max(0, seen.peak_bytes - seen.weights_bytes - boundary)
    parts = {"peak": seen.peak_bytes, "weights": seen.weights_bytes, "boundary": boundary, "scratch": scratch}
    return {f"{part}_bytes": float(num_bytes) for part, num_bytes in parts.items()}


def measure_clip(
    context: Context, profile: Profile, steps: int, sets: dict[str, EngineSet], memory: dict[str, dict[str, float]]
) -> Case:
    clip, frame = pan_for(profile, profile.frames)
    request = request_for(frame, profile, steps)
    want = run_clip(context.truth, clip, request)
    video = video_io(want.frames, clip.stack())

    def check(got: ClipRun) -> Verification:
        seen = compare(got.latents, want.latents, context.limits.latents, context.truth_name)
        seen.psnr_db = psnr_of(got.frames, want.frames)
        seen.passed = seen.passed and seen.psnr_db >= context.limits.psnr
        return seen

    def figures(name: str, timed: list[ClipRun]) -> dict[str, float]:
        phases = ("prepare", "denoise", "decode")
        return {f"{phase}_s": median(getattr(r, phase) for r in timed) for phase in phases} | memory[name] | video

    contenders = {
        name: Contender(partial(run_clip, engines, clip, request), check, partial(figures, name))
        for name, engines in sets.items()
    }
    rounds, work = (WARMUP[context.device.type], REPEATS), context.clip_work(profile, steps)
    return measure(context, context.case_name(profile, steps, "steps"), contenders, Clock(context.device), rounds, work)


def video_io(result: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """Seconds to decode the source's window from H.264, and to encode the result's. Engines have no part in it."""

    def write(frames: np.ndarray) -> float:
        started = time.perf_counter()
        with create_video(path, frames.shape[2], frames.shape[1], FRAME_RATE) as writer:
            writer.write(frames)
        return time.perf_counter() - started

    def read() -> float:
        started = time.perf_counter()
        with open_video(path) as video:
            assert len(list(video.frames())) == len(source)
        return time.perf_counter() - started

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        writes = [write(result) for _ in range(VIDEO_RUNS)]
        write(source)
        reads = [read() for _ in range(VIDEO_RUNS)]
    return {"video_read_s": median(reads), "video_write_s": median(writes)}
