"""Throughput of one outpainter that callers share: 1, 2 and 4 sessions at once, each in a thread of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from benchmarks.clip import pan_for
from benchmarks.clip_run import request_for
from benchmarks.contenders import contender_names
from benchmarks.contenders.uncached import UncachedEngines
from benchmarks.context import Context
from benchmarks.measure import Contender, measure
from benchmarks.roofline import clip_work
from benchmarks.schema import Case, Verification
from benchmarks.suites.end_to_end import opens
from hero_rt.outpainter import Outpainter
from hero_rt.spec.profile import Profile

STEPS = 10
CALLERS = (1, 2, 4)
WARMUP, REPEATS = 1, 5


def run(context: Context) -> Iterator[Case]:
    """The first size without guidance. Every contender does the work of four sessions, by so many at a time."""
    settings = context.settings
    profile = Profile(*settings.sizes[0], settings.config.num_frames)
    sets = context.open(contender_names(settings, compiled=False))
    for name, engines in sets.items():
        if isinstance(engines, UncachedEngines) or not opens(context, name, engines, profile):
            continue
        outpainter = Outpainter(engines)
        want = [outpaint(outpainter, profile, seed) for seed in range(max(CALLERS))]
        check = partial(equal, want=want)
        contenders = {
            f"{callers} at once": Contender(partial(outpaint_all, outpainter, profile, callers), check)
            for callers in CALLERS
        }
        case = measure(
            context,
            f"{name} {settings.preset} {profile} {settings.dtype} {STEPS} steps, {max(CALLERS)} clips",
            contenders,
            baseline=f"{CALLERS[0]} at once",
            clock=context.host_clock,
            warmup=WARMUP,
            repeats=REPEATS,
            work=clip_work(settings.preset, settings.dtype, profile, STEPS) * max(CALLERS),
        )
        for measurement in case.measurements:
            if measurement.timing is not None:
                measurement.figures["frames_per_s"] = profile.frames * max(CALLERS) / measurement.timing.median
        yield case
    for engines in sets.values():
        engines.close()


def outpaint(outpainter: Outpainter, profile: Profile, seed: int) -> np.ndarray:
    """One window; every seed is another clip's noise."""
    clip, frame = pan_for(profile, profile.frames)
    request = request_for(frame, profile, STEPS).model_copy(update={"seed": seed})
    return np.concatenate(list(outpainter.session(clip, request).run(clip.frames())))


def outpaint_all(outpainter: Outpainter, profile: Profile, callers: int) -> list[np.ndarray]:
    """As many sessions as the most callers have, `callers` at a time."""
    with ThreadPoolExecutor(callers) as threads:
        return list(threads.map(partial(outpaint, outpainter, profile), range(max(CALLERS))))


def equal(got: list[np.ndarray], want: list[np.ndarray]) -> Verification:
    """Each session's frames to the bit: callers must not meet."""
    differing = sum(not np.array_equal(*pair) for pair in zip(got, want, strict=True))
    return Verification(against="one after another", relative_l2=float(differing), limit=0.0, passed=differing == 0)
