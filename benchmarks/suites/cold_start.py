"""In a fresh process, from opening engines to the first finished window: nothing is warm."""

from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from statistics import median

import numpy as np

from benchmarks.clip_run import outpaint_pan
from benchmarks.contenders import BASELINE, contender_names
from benchmarks.context import Context
from benchmarks.fresh_process import ClipJob, ClipOutcome, Ends, run_in_fresh_process
from benchmarks.measure import Contender, compare_frames, measure
from benchmarks.roofline import clip_work
from benchmarks.schema import Case, Verification
from benchmarks.timing import OwnClock
from hero_export.verify import THRESHOLDS

STEPS = 4  # few: what is cold is paid once, steps are the other suites' subject
REPEATS = 3


def run(context: Context) -> Iterator[Case]:
    """The time is from opening on, and figures tell its parts and the process's start. Files may lie in a cache."""
    settings = context.settings
    sets = context.open(contender_names(settings, compiled=False))
    for profile in settings.profiles():
        want = Ends()
        want.add(next(outpaint_pan(context.truth, profile, profile.frames, STEPS, "stream")))
        check = partial(_check, context, want.frames())
        contenders = {}
        for name, engines in sets.items():
            folder = context.attempt(f"{name} {profile}", partial(context.folder, engines, profile))
            if folder is None:
                continue
            job = ClipJob(settings, name, folder, profile, profile.frames, STEPS, "stream", warm=False)
            runs: list[ClipOutcome] = []
            contenders[name] = Contender(_caller(job, runs), check, partial(_figures, runs))
        yield measure(
            context,
            f"{settings.preset} {profile} {settings.dtype} {STEPS} steps",
            contenders,
            baseline=BASELINE,
            clock=OwnClock(attrgetter("cold")),
            warmup=0,
            repeats=REPEATS,
            work=clip_work(settings.preset, settings.dtype, profile, STEPS),
        )
    for engines in sets.values():
        engines.close()


def _check(context: Context, want: np.ndarray, got: ClipOutcome) -> Verification:
    limit = THRESHOLDS[context.settings.dtype].psnr
    return compare_frames(got.frames, want, limit, context.truth_name)


def _caller(job: ClipJob, runs: list[ClipOutcome]) -> Callable[[], ClipOutcome]:
    def call() -> ClipOutcome:
        runs.append(run_in_fresh_process(job))
        return runs[-1]

    return call


def _figures(runs: list[ClipOutcome]) -> dict[str, float]:
    timed = runs[1:]  # the first was verified, not timed
    parts = {"process_s": "start", "open_s": "open", "first_window_s": "first_window"}
    return {figure: median(getattr(run, part) for run in timed) for figure, part in parts.items()}
