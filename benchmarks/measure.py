"""Verifies contenders, then times those that match the reference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.clip import ClipOutcome, Ends
from benchmarks.contenders import BASELINE
from benchmarks.context import Context
from benchmarks.schema import Case, Measurement, Verification, Work
from benchmarks.timing import Clock, interleave
from hero_export.verify import psnr_of, relative_l2


@dataclass(eq=False)
class Contender:
    """`call` does the work once. `check` compares its result. `figures` derives figures from the timed results."""

    call: Callable[[], Any]
    check: Callable[[Any], Verification]
    figures: Callable[[list[Any]], dict[str, float]] | None = None
    results: list[Any] = field(default_factory=list)  # kept only for `figures`

    def __call__(self) -> Any:
        result = self.call()
        if self.figures:
            self.results.append(result)
        return result

    def verify(self) -> Verification:
        return self.check(self())


def measure(
    context: Context,
    name: str,
    contenders: Mapping[str, Contender],
    clock: Clock,
    rounds: tuple[int, int],
    work: Work | None = None,
    baseline: str = BASELINE,
) -> Case:
    """Check every contender, time those that match in turns, and check the last timed result.

    The last result is checked too, because an engine may run its first call differently (it captures a CUDA graph
    afterwards). A contender that fails the second check loses its time. The limit comes from the baseline's `work`. A
    contender that raises goes to `context.unavailable` with the reason.

    rounds: warm-up rounds and timed rounds. Those of the settings have precedence.
    """

    def attempt(key: str, turn: Callable[[], Any]) -> Any:
        return context.attempt(f"{key} {name}", turn)

    warmup, repeats = rounds[0], context.settings.repeats or rounds[1]
    seen = {key: attempt(key, contender.verify) for key, contender in contenders.items()}
    checks: dict[str, Verification] = {key: check for key, check in seen.items() if check is not None}
    matching = {key: contenders[key] for key, check in checks.items() if check.passed}
    timed = interleave(matching, clock, warmup, repeats, attempt)
    for key, contender in matching.items():
        again = contender.check(timed[key][1]) if key in timed else None
        if again is None:
            del checks[key]
        elif not again.passed or again.relative_l2 > checks[key].relative_l2:
            checks[key] = again
    timings = {key: timing for key, (timing, _) in timed.items() if checks[key].passed}
    measurements = [Measurement(name=key, verification=checks[key], timing=timings.get(key)) for key in checks]
    case = Case(name=name, baseline=baseline, work=work, measurements=measurements)
    for m, timing in case.timed():
        m.ratio = timings[baseline].median / timing.median if baseline in timings else None
        if figures := contenders[m.name].figures:
            m.figures = figures(contenders[m.name].results[-repeats:])
    return case.under(context.ceilings)


def verified_counts(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the first result a second time. If warm-up has no effect, the verified call can be timed too."""

    def results():
        yield from repeat(call(), 2)
        while True:
            yield call()

    return partial(next, results())


def compare(got: Tensor, want: Tensor, limit: float, against: str) -> Verification:
    """Compare ‖got - want‖ / ‖want‖ in FP64 with `limit`. Values that are not finite fail."""
    error = min(relative_l2(got.cpu(), want.cpu()), 1e30)  # JSON has no infinity
    return Verification(against=against, relative_l2=error, limit=limit, passed=error <= limit)


def check_ends(context: Context, want: Ends, got: ClipOutcome) -> Verification:
    """Compare the frames that a process kept with those of the reference."""
    return compare_frames(got.frames, want.frames, context.limits.psnr, context.truth_name)


def compare_frames(got: np.ndarray, want: np.ndarray, psnr_db: float, against: str) -> Verification:
    """Compare uint8 frames with the reference. The PSNR limit is converted to a relative L2 error."""
    norm = float(np.linalg.norm(want.astype(np.float64)))
    limit = 255 * 10 ** (-psnr_db / 20) * want.size**0.5 / norm
    error = float(np.linalg.norm(got.astype(np.float64) - want)) / norm
    psnr = psnr_of(got, want)
    return Verification(against=against, relative_l2=error, limit=limit, psnr_db=psnr, passed=psnr >= psnr_db)
