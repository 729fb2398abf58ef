"""What the project promises, and what the results say of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.contenders import BASELINE, UNCACHED
from benchmarks.schema import Case, Measurement, Run
from hero_rt.engines.backend import FORMATS

H100_STEP = "hero-sd15 256x256x16-cfg fp16"


@dataclass(frozen=True)
class Seen:
    """One value of one run; `best` names the contender it belongs to."""

    value: float
    best: str
    run: Run


@dataclass(frozen=True)
class Target:
    """`goal` is a ceiling for times and a floor for ratios and shares; `on` is the GPU or CPU it is promised for."""

    text: str
    goal: float
    unit: str
    at_most: bool
    on: str
    look: Callable[[Run], Iterator[tuple[float, str]]]

    def seen(self, runs: Sequence[Run]) -> Seen | None:
        """The best of the runs on the right kind of machine; None where nobody measured it.

        The best and not the latest: one file holds some contenders of a case, another the others.
        """
        found = [
            Seen(value, best, run)
            for run in runs
            if self.on in (run.environment.gpu or "CPU")
            for value, best in self.look(run)
        ]
        better = min if self.at_most else max
        return better(found, key=lambda seen: seen.value, default=None)

    def met(self, value: float) -> bool:
        return value <= self.goal if self.at_most else value >= self.goal


def _cases(run: Run, suite: str, name: str = "") -> Iterator[Case]:
    for result in run.suites:
        if result.suite == suite:
            yield from (case for case in result.cases if case.name.startswith(name))


def _best_engine(case: Case) -> Measurement | None:
    engines = [m for m in case.measurements if m.name.startswith(FORMATS) and m.timing is not None]
    return min(engines, key=lambda m: m.timing.median, default=None)  # type: ignore[union-attr]


def _best_time(suite: str, name: str) -> Callable[[Run], Iterator[tuple[float, str]]]:
    def look(run: Run) -> Iterator[tuple[float, str]]:
        for case in _cases(run, suite, name):
            best = _best_engine(case)
            if best is not None and best.timing is not None:
                yield best.timing.median, best.name

    return look


def _best_over(suite: str, name: str, other: str) -> Callable[[Run], Iterator[tuple[float, str]]]:
    """How many times as fast as `other` the best engine is, in the same case."""

    def look(run: Run) -> Iterator[tuple[float, str]]:
        for case in _cases(run, suite, name):
            best, base = _best_engine(case), case.find(other)
            if best is not None and best.timing and base is not None and base.timing:
                yield base.timing.median / best.timing.median, best.name

    return look


def _cached_over_uncached(suite: str, name: str) -> Callable[[Run], Iterator[tuple[float, str]]]:
    def look(run: Run) -> Iterator[tuple[float, str]]:
        for case in _cases(run, suite, name):
            uncached = case.find(UNCACHED)
            if uncached is not None and uncached.ratio:
                yield 1 / uncached.ratio, BASELINE

    return look


def _least_share_of_copy(run: Run) -> Iterator[tuple[float, str]]:
    shares = [
        fused.figures["share_of_copy"]
        for case in _cases(run, "kernels")
        if " C320 " in case.name and (fused := case.find("fused")) is not None and fused.timing
    ]
    if shares:
        yield min(shares), "fused"


def _least_over_compile(run: Run) -> Iterator[tuple[float, str]]:
    ratios = []
    for case in _cases(run, "kernels"):
        fused, compiled = case.find("fused"), case.find("compile")
        if fused is not None and fused.timing and compiled is not None and compiled.timing:
            ratios.append(compiled.timing.median / fused.timing.median)
    if ratios:
        yield min(ratios), "fused"


_CLIP_50 = "hero-sd15 256x256x16-cfg fp16 50 steps"
TARGETS = (
    Target("one step of hero-sd15, 256x256x16-cfg", 0.0166, "s", True, "H100", _best_time("unet-step", H100_STEP)),
    Target("the same step over eager-cached", 2.5, "x", False, "H100", _best_over("unet-step", H100_STEP, BASELINE)),
    Target("the same step over torch.compile", 1.2, "x", False, "H100", _best_over("unet-step", H100_STEP, "compile")),
    Target(
        "the same step over torch.compile max-autotune with CUDA graphs",
        1.0,
        "x",
        False,
        "H100",
        _best_over("unet-step", H100_STEP, "compile-max-autotune"),
    ),
    Target("50 steps end to end, guided, 256x256x16", 1.0, "s", True, "H100", _best_time("end-to-end", _CLIP_50)),
    Target(
        "eager-cached over eager-uncached, 50 steps end to end",
        1.5,
        "x",
        False,
        "H100",
        _cached_over_uncached("end-to-end", _CLIP_50),
    ),
    Target("temporal attention at C = 320: share of a copy's bandwidth", 0.8, "", False, "", _least_share_of_copy),
    Target("temporal attention over torch.compile, every level", 1.0, "x", False, "", _least_over_compile),
    Target(
        "onnxruntime or aoti over eager-cached, hero-tiny end to end",
        1.5,
        "x",
        False,
        "CPU",
        lambda run: _worst(_best_over("end-to-end", "hero-tiny", BASELINE)(run)),
    ),
)


def _worst(values: Iterator[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """The lowest of several cases."""
    found = list(values)
    if found:
        yield min(found)
