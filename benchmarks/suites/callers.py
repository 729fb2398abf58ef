"""Throughput of one outpainter that callers share: 1, 2 and 4 sessions at once, each in a thread of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from benchmarks.clip import pan_for, request_for
from benchmarks.contenders.uncached import UncachedEngines
from benchmarks.context import Context
from benchmarks.measure import Contender, measure
from benchmarks.schema import Case, Verification
from benchmarks.timing import Clock
from hero_rt.outpainter import Outpainter
from hero_rt.spec.profile import Profile

STEPS = 10
CALLERS = (1, 2, 4)
ROUNDS = 1, 5


def run(context: Context) -> Iterator[Case]:
    """The first size without guidance. Every contender does the work of four sessions, by so many at a time."""
    profile, clips = context.settings.first_profile(), max(CALLERS)
    with context.contenders() as sets:
        for name, engines in sets.items():
            if isinstance(engines, UncachedEngines) or not context.opens(name, engines, profile):
                continue
            outpaint = partial(outpaint_clip, Outpainter(engines), profile)
            want = [outpaint(seed) for seed in range(clips)]
            check = partial(equal, want=want)
            contenders = {f"{n} at once": Contender(partial(at_once, n, outpaint), check) for n in CALLERS}
            case_name = f"{name} {context.case_name(profile, STEPS, 'steps,', clips, 'clips')}"
            clock, work = Clock(context.device), context.clip_work(profile, STEPS, clips)
            case = measure(context, case_name, contenders, clock, ROUNDS, work, baseline="1 at once")
            for m in case.measurements:
                if m.timing is not None:
                    m.figures["frames_per_s"] = profile.frames * clips / m.timing.median
            yield case


def outpaint_clip(outpainter: Outpainter, profile: Profile, seed: int) -> np.ndarray:
    """One window; every seed is another clip, with noise of its own."""
    clip, frame = pan_for(profile, profile.frames, seed)
    session = outpainter.session(clip, request_for(frame, profile, STEPS, seed=seed))
    return np.concatenate(list(session.run(clip.frames())))


def at_once(callers: int, outpaint: partial) -> list[np.ndarray]:
    """As many sessions as the most callers have, `callers` at a time."""
    with ThreadPoolExecutor(callers) as threads:
        return list(threads.map(outpaint, range(max(CALLERS))))


def equal(got: list[np.ndarray], want: list[np.ndarray]) -> Verification:
    """Each session's frames to the bit: callers must not meet."""
    differing = sum(not np.array_equal(*pair) for pair in zip(got, want, strict=True))
    return Verification(against="one after another", relative_l2=float(differing), limit=0.0, passed=differing == 0)
