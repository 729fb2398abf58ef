"""Cost and memory against the number of frames: streaming, whose cost is a window's, and joint, which grows."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.clip_run import Mode, outpaint_pan
from benchmarks.contenders import BASELINE, contender_names
from benchmarks.contenders.uncached import step_io, without
from benchmarks.context import Context
from benchmarks.fresh_process import FIRST_FRAMES, ClipJob, ClipOutcome, run_in_fresh_process
from benchmarks.measure import Contender, compare_frames, measure
from benchmarks.roofline import bytes_of, clip_work
from benchmarks.schema import Case, Verification
from benchmarks.suites.end_to_end import opens
from hero_export.verify import THRESHOLDS
from hero_rt.engines.engine import EngineSet
from hero_rt.outpainter import MAX_JOINT_FRAMES, OVERLAP
from hero_rt.profile import Profile
from hero_rt.windows import count_stream_windows, joint_windows

STEPS = 4
LONGEST_JOINT = 4 * MAX_JOINT_FRAMES  # past what `auto` would choose, to show the growth


def run(context: Context) -> Iterator[Case]:
    """The first size without guidance: both scale every window alike."""
    settings = context.settings
    profile = Profile(*settings.sizes[0], settings.config.num_frames)
    sets = context.open(contender_names(settings, compiled=False))
    here = {name: engines for name, engines in sets.items() if opens(context, name, engines, profile)}
    for num_frames in settings.frames:
        yield measure_length(context, profile, "stream", num_frames, here)
    for num_frames in settings.frames:
        if num_frames <= LONGEST_JOINT:
            yield measure_length(context, profile, "joint", num_frames, here)
    for engines in sets.values():
        engines.close()


def measure_length(context: Context, profile: Profile, mode: Mode, num_frames: int, sets: dict[str, EngineSet]) -> Case:
    """One clip of `num_frames` a contender, each in a fresh process whose first window is not timed.

    One run, of many windows, both verified and timed. The first frames are compared with the truth, which streams no
    further: what a stream has finished does not depend on what follows.
    """
    settings = context.settings
    judged = min(num_frames, FIRST_FRAMES)
    length = judged if mode == "stream" else num_frames
    want = np.concatenate(list(outpaint_pan(context.truth, profile, length, STEPS, mode)))[:judged]
    held = bytes_of(without(step_io(context.model, profile)[0], "sample", "timestep"))
    if mode == "stream":
        windows = count_stream_windows(num_frames, profile.frames, OVERLAP)
    else:
        windows = len(joint_windows(num_frames, profile.frames, OVERLAP))

    def check(got: ClipOutcome) -> Verification:
        return compare_frames(got.frames, want, THRESHOLDS[settings.dtype].psnr, context.truth_name)

    def contender(name: str, folder: Path) -> Contender:
        job = ClipJob(settings, name, folder, profile, num_frames, STEPS, mode, warm=True)
        run_once = functools.cache(lambda: run_in_fresh_process(job))

        def figures() -> dict[str, float]:
            return {
                "seconds_per_frame": run_once().total / num_frames,
                "first_window_s": run_once().first_window,
                "prepared_bytes": held * (1 if mode == "stream" else windows),  # windows held at once, by their shapes
                "peak_bytes": run_once().peak_bytes,
            }

        return Contender(run_once, check, figures)

    return measure(
        f"{settings.preset} {profile} {settings.dtype} {STEPS} steps {mode} {num_frames} frames",
        {name: contender(name, context.folder(engines, profile)) for name, engines in sets.items()},
        baseline=BASELINE,
        clock=lambda call: call().total,  # what the process measured, without its start
        warmup=0,
        repeats=1,
        work=clip_work(settings.preset, settings.dtype, profile, STEPS) * windows,
        ceilings=context.ceilings,
        attempt=context.attempt,
    )
