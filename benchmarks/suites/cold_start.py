"""In a fresh process, from opening engines to the first finished window: nothing is warm."""

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.clip import outpaint_pan
from benchmarks.context import Context
from benchmarks.fresh_process import ClipJob, ClipOutcome, Ends, run_in_fresh_process
from benchmarks.measure import Contender, check_ends, measure
from benchmarks.schema import Case
from benchmarks.timing import Clock

STEPS = 4  # few: what is cold is paid once, steps are the other suites' subject
ROUNDS = 0, 3


def run(context: Context) -> Iterator[Case]:
    """The time is from opening on, and figures tell its parts and the process's start. Files may lie in a cache."""
    with context.contenders() as sets:
        for profile in context.settings.profiles():
            want = Ends(outpaint_pan(context.truth, profile, profile.frames, STEPS, "stream"))
            contenders = {}
            for name, engines in sets.items():
                folder = context.attempt(f"{name} {profile}", partial(context.folder, engines, profile))
                if folder is not None:
                    job = ClipJob(context.settings, name, folder, profile, profile.frames, STEPS, "stream")
                    call = partial(run_in_fresh_process, job)
                    contenders[name] = Contender(call, partial(check_ends, context, want), _figures)
            clock = Clock(context.device, seconds=lambda outcome: outcome.open + outcome.first_window)
            work = context.clip_work(profile, STEPS)
            yield measure(context, context.case_name(profile, STEPS, "steps"), contenders, clock, ROUNDS, work)


def _figures(timed: list[ClipOutcome]) -> dict[str, float]:
    parts = {"process_s": "start", "open_s": "open", "first_window_s": "first_window"}
    return {figure: median(getattr(run, part) for run in timed) for figure, part in parts.items()}
