"""Times whole clips: one window, long videos, concurrent callers, and a cold start."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from torch import Tensor

from benchmarks.clip import FRAME_RATE, ClipOutcome, Ends, outpaint_pan, pan_for
from benchmarks.contenders import UncachedEngines, without
from benchmarks.context import Context
from benchmarks.measure import Contender, check_ends, compare, measure, verified_counts
from benchmarks.roofline import boundary_bytes, bytes_of
from benchmarks.schema import Case, Verification
from benchmarks.timing import Clock, synchronize
from hero_export.verify import psnr_of
from hero_rt.engines.engine import EngineSet
from hero_rt.outpainter import Outpainter
from hero_rt.plan import resolve
from hero_rt.request import Mode, OutpaintRequest
from hero_rt.session import Event, Prepared, StepDone
from hero_rt.spec.boundary import submodule_io
from hero_rt.spec.profile import Profile
from hero_rt.video import VideoSource, create_video, open_video

REPEATS = 5
# the verified run warms up; on a GPU one more, because engines capture their graph in their second
WARMUP = {"cpu": 0, "cuda": 1}
MEMORY_STEPS = 2  # memory does not grow with the steps
VIDEO_RUNS = 3
FEW_STEPS = 4  # for long videos and cold starts, whose subject is not the steps
PROCESSES = 3  # a contender
LONGEST_REPEATED = 256  # frames: a longer clip is run once
# more than `auto` chooses, to show the growth
LONGEST_JOINT = 4 * OutpaintRequest.model_fields["max_joint_frames"].default
CALLERS_STEPS = 10
CALLERS = (1, 2, 4)


def end_to_end(context: Context) -> Iterator[Case]:
    """Time one window. Figures give prepare, denoise, decode, video I/O and memory separately.

    The clip has one window, so its time is also the latency to the first finished window.
    """
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
    """Measure memory in a fresh process: weights, tensors between submodules, and the rest (scratch)."""
    settings = context.settings
    seen = context.fresh(name, engines, profile, profile.frames, MEMORY_STEPS, "joint")()
    boundary = boundary_bytes(settings.preset, settings.dtype, profile)
    scratch = max(0, seen.peak_bytes - seen.weights_bytes - boundary)
    parts = {"peak": seen.peak_bytes, "weights": seen.weights_bytes, "boundary": boundary, "scratch": scratch}
    return {f"{part}_bytes": float(num_bytes) for part, num_bytes in parts.items()}


def measure_clip(
    context: Context, profile: Profile, steps: int, sets: dict[str, EngineSet], memory: dict[str, dict[str, float]]
) -> Case:
    clip, request = pan_for(profile, profile.frames, steps)
    want = run_clip(context.truth, clip, request)
    clock = Clock(context.device)
    video = video_io(clock, want.frames, clip.stack())

    def check(got: ClipRun) -> Verification:
        seen = compare(got.latents, want.latents, context.limits.latents, context.truth_name)
        seen.psnr_db = psnr_of(got.frames, want.frames)
        seen.passed = seen.passed and seen.psnr_db >= context.limits.psnr
        return seen

    def figures(name: str, timed: list[ClipRun]) -> dict[str, float]:
        return {key: median(r.phases[key] for r in timed) for key in timed[0].phases} | memory[name] | video

    contenders = {
        name: Contender(partial(run_clip, engines, clip, request), check, partial(figures, name))
        for name, engines in sets.items()
    }
    rounds, work = (WARMUP[context.device.type], REPEATS), context.clip_work(profile, steps)
    return measure(context, context.case_name(profile, steps, "steps"), contenders, clock, rounds, work)


class ClipRun(NamedTuple):
    """Final latents [F, 4, h, w] on the CPU, frames uint8 [F, H, W, 3], and seconds by phase."""

    latents: Tensor
    frames: np.ndarray
    phases: dict[str, float]


def run_clip(engines: EngineSet, clip: VideoSource, request: OutpaintRequest) -> ClipRun:
    """Run one window and time its phases from outside. No step synchronises the device."""
    at: dict[str, float] = {}
    latents: list[Tensor] = []

    def on_event(event: Event) -> None:
        last = isinstance(event, StepDone) and event.step == request.steps - 1
        if isinstance(event, Prepared) or last:
            synchronize(engines.device)
            at[type(event).__name__] = time.perf_counter()
        if isinstance(event, StepDone) and last:
            latents.append(event.latents)

    started = time.perf_counter()
    frames = np.concatenate(list(Outpainter(engines).session(clip, request, on_event).run(clip.frames())))
    finished = time.perf_counter()
    prepared, denoised = at["Prepared"], at["StepDone"]
    phases = {"prepare_s": prepared - started, "denoise_s": denoised - prepared, "decode_s": finished - denoised}
    return ClipRun(latents[0].cpu(), frames, phases)


def video_io(clock: Clock, result: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """Measure seconds to decode the source from H.264 and to encode the result. No engine runs."""

    def write(frames: np.ndarray) -> None:
        with create_video(path, frames.shape[2], frames.shape[1], FRAME_RATE) as writer:
            writer.write(frames)

    def read() -> None:
        with open_video(path) as video:
            assert len(list(video.frames())) == len(source)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        writes = [clock(partial(write, result))[0] for _ in range(VIDEO_RUNS)]
        write(source)
        reads = [clock(read)[0] for _ in range(VIDEO_RUNS)]
    return {"video_read_s": median(reads), "video_write_s": median(writes)}


def long_video(context: Context) -> Iterator[Case]:
    """Time stream and joint mode against the number of frames.

    Only the first size without guidance runs, because size and guidance scale every window alike.
    """
    profile, lengths = context.settings.first_profile(), context.settings.frames
    with context.contenders() as sets:
        here = {name: engines for name, engines in sets.items() if context.opens(name, engines, profile)}
        for num_frames in lengths:
            yield measure_length(context, profile, "stream", num_frames, here)
        for num_frames in (length for length in lengths if length <= LONGEST_JOINT):
            yield measure_length(context, profile, "joint", num_frames, here)


def measure_length(context: Context, profile: Profile, mode: Mode, num_frames: int, sets: dict[str, EngineSet]) -> Case:
    """Time a clip of `num_frames` per contender. The first frames and the last window are verified."""
    want = Ends(outpaint_pan(Outpainter(context.truth), profile, num_frames, FEW_STEPS, mode))
    clip, request = pan_for(profile, num_frames, FEW_STEPS, mode)
    plan = resolve(request, clip, context.truth)
    windows = (plan.num_windows or 0) if mode == "stream" else len(plan.joint_windows(num_frames))
    step, _ = submodule_io("unet_step", context.model.config, profile, context.model.dtype)
    held = bytes_of(without(step, "sample", "timestep"))

    def figures(timed: list[ClipOutcome]) -> dict[str, float]:
        return {
            "seconds_per_frame": median(run.total for run in timed) / num_frames,
            "first_window_s": median(run.first_window for run in timed),
            "prepared_bytes": held * (1 if mode == "stream" else windows),  # the windows that are held at once
            "peak_bytes": max(run.peak_bytes for run in timed),
        }

    contenders = {}
    for name, engines in sets.items():
        # the process warms up by itself, so the verified call is timed too
        call = context.fresh(name, engines, profile, num_frames, FEW_STEPS, mode, True)
        contenders[name] = Contender(verified_counts(call), partial(check_ends, context, want), figures)
    case_name = context.case_name(profile, FEW_STEPS, "steps", mode, num_frames, "frames")
    clock = Clock(context.device, seconds=attrgetter("total"))
    rounds = 0, PROCESSES if num_frames <= LONGEST_REPEATED else 1
    return measure(context, case_name, contenders, clock, rounds, context.clip_work(profile, FEW_STEPS, windows))


def callers(context: Context) -> Iterator[Case]:
    """Measure the throughput of one shared outpainter: 1, 2 and 4 sessions at once, a thread each.

    Only the first size without guidance runs. Every contender runs four sessions in all.
    """
    profile, clips = context.settings.first_profile(), max(CALLERS)
    with context.contenders() as sets:
        for name, engines in sets.items():
            if isinstance(engines, UncachedEngines) or not context.opens(name, engines, profile):
                continue
            outpaint = partial(outpaint_clip, Outpainter(engines), profile)
            check = partial(equal, want=[outpaint(seed) for seed in range(clips)])
            contenders = {f"{n} at once": Contender(partial(at_once, n, outpaint), check) for n in CALLERS}
            case_name = f"{name} {context.case_name(profile, CALLERS_STEPS, 'steps,', clips, 'clips')}"
            clock, work = Clock(context.device), context.clip_work(profile, CALLERS_STEPS, clips)
            case = measure(context, case_name, contenders, clock, (1, REPEATS), work, baseline="1 at once")
            for m, timing in case.timed():
                m.figures["frames_per_s"] = profile.frames * clips / timing.median
            yield case


def outpaint_clip(outpainter: Outpainter, profile: Profile, seed: int) -> np.ndarray:
    return np.concatenate(list(outpaint_pan(outpainter, profile, profile.frames, CALLERS_STEPS, "joint", seed)))


def at_once(callers: int, outpaint: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Run four sessions, `callers` at a time."""
    with ThreadPoolExecutor(callers) as threads:
        return list(threads.map(outpaint, range(max(CALLERS))))


def equal(got: list[np.ndarray], want: list[np.ndarray]) -> Verification:
    """Compare the frames of each session bit by bit."""
    differing = sum(not np.array_equal(*pair) for pair in zip(got, want, strict=True))
    return Verification(against="one after another", relative_l2=float(differing), limit=0.0, passed=differing == 0)


def cold_start(context: Context) -> Iterator[Case]:
    """Time a fresh process from opening engines to the first finished window.

    Figures give the parts and the start of the process. Files may be in the system's cache.
    """
    parts = {"process_s": "start", "open_s": "open", "first_window_s": "first_window"}

    def figures(timed: list[ClipOutcome]) -> dict[str, float]:
        return {figure: median(getattr(run, part) for run in timed) for figure, part in parts.items()}

    with context.contenders() as sets:
        for profile in context.settings.profiles():
            want = Ends(outpaint_pan(Outpainter(context.truth), profile, profile.frames, FEW_STEPS, "stream"))
            contenders = {}
            for name, engines in sets.items():
                build = partial(context.fresh, name, engines, profile, profile.frames, FEW_STEPS, "stream")
                if call := context.attempt(f"{name} {profile}", build):
                    contenders[name] = Contender(call, partial(check_ends, context, want), figures)
            clock = Clock(context.device, seconds=lambda outcome: outcome.open + outcome.first_window)
            case_name, work = context.case_name(profile, FEW_STEPS, "steps"), context.clip_work(profile, FEW_STEPS)
            yield measure(context, case_name, contenders, clock, (0, PROCESSES), work)
