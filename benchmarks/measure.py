"""Verify, then time: nothing that does not match the truth is given a time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from benchmarks.schema import Case, Measurement, Verification, Work
from benchmarks.timing import Clock, interleave
from hero_export.verify import relative_l2

if TYPE_CHECKING:
    from benchmarks.context import Context


@dataclass
class Contender:
    """`call` does the work once; `check` judges what a call returned; `figures` is read after the last call."""

    call: Callable[[], Any]
    check: Callable[[Any], Verification]
    figures: Callable[[], dict[str, float]] = field(default=dict)

    def verify(self) -> Verification:
        return self.check(self.call())


def measure(
    context: "Context",
    name: str,
    contenders: Mapping[str, Contender],
    *,
    baseline: str,
    clock: Clock,
    warmup: int,
    repeats: int,
    work: Work | None = None,
) -> Case:
    """Check every contender, time those that match, taking turns, and check what the last timed call returned.

    The second check is of what was timed: an engine may run its first call another way than those that follow (a graph
    is captured after it). What fails it loses its time. The limit is of the baseline's `work`. A contender that raises
    is left out, and `context.unavailable` says why.

    repeats: the settings' own go before it.
    """

    def attempt_turn(key: str, turn: Callable[[], Any]) -> Any:
        return context.attempt(f"{key} {name}", turn)

    seen = {key: attempt_turn(key, contender.verify) for key, contender in contenders.items()}
    checks: dict[str, Verification] = {key: check for key, check in seen.items() if check is not None}
    matching = {key: contenders[key].call for key, check in checks.items() if check.passed}
    timed = interleave(matching, clock, warmup, context.settings.repeats or repeats, attempt_turn)
    for key in matching:
        if key in timed:
            checks[key] = max(checks[key], contenders[key].check(timed[key].last), key=_badness)
        else:
            del checks[key]
    timings = {key: turns.timing for key, turns in timed.items() if checks[key].passed}
    base = timings.get(baseline)
    measurements = []
    for key, check in checks.items():
        timing = timings.get(key)
        measurements.append(
            Measurement(
                name=key,
                verification=check,
                timing=timing,
                ratio=base.median / timing.median if base and timing else None,
                figures=contenders[key].figures() if timing else {},
            )
        )
    return Case(name=name, baseline=baseline, work=work, measurements=measurements).under(context.ceilings)


def _badness(check: Verification) -> tuple[bool, float]:
    return not check.passed, check.relative_l2


def compare(got: Tensor, want: Tensor, limit: float, against: str) -> Verification:
    """‖got - want‖ / ‖want‖ in FP64 against `limit`; what is not finite never passes."""
    error = min(relative_l2(got.cpu(), want.cpu()), 1e30)  # JSON has no infinity
    return Verification(against=against, relative_l2=error, limit=limit, passed=error <= limit)


def psnr_of(got: np.ndarray, want: np.ndarray) -> float:
    """uint8 frames over all of them, in dB; equal frames give 100."""
    error = float(np.mean((got.astype(np.float64) - want) ** 2))
    return 10 * math.log10(255**2 / error) if error > 0 else 100.0


def compare_frames(got: np.ndarray, want: np.ndarray, psnr_db: float, against: str) -> Verification:
    """uint8 frames against the truth's, held to a PSNR (as the relative L2 error that it is for these frames)."""
    norm = float(np.linalg.norm(want.astype(np.float64)))
    limit = 255 * 10 ** (-psnr_db / 20) * want.size**0.5 / norm
    error = float(np.linalg.norm(got.astype(np.float64) - want)) / norm
    psnr = psnr_of(got, want)
    return Verification(against=against, relative_l2=error, limit=limit, psnr_db=psnr, passed=psnr >= psnr_db)
