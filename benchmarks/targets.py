"""What the project promises, and what the results say of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.contenders import BASELINE, UNCACHED
from benchmarks.schema import Case, Measurement, Run
from hero_rt.engines.backend import BACKENDS

H100_STEP = "hero-sd15 256x256x16-cfg fp16"


@dataclass(frozen=True)
class Seen:
    """One contender's value in one case; `rounds`: a ratio turn by turn."""

    machine: str
    case: str
    contender: str
    value: float
    rounds: tuple[float, ...] = ()


Values = Iterator[tuple[str, float, tuple[float, ...]]]  # contender, value, rounds
Look = Callable[[Case], Values]


@dataclass(frozen=True)
class Target:
    """`goal` is a ceiling for times and a floor for ratios and shares; `on` is the GPU or CPU it is promised for.

    `cases` are those of `suite` whose name holds it.
    """

    text: str
    goal: float
    unit: str
    at_most: bool
    on: str
    suite: str
    cases: str
    look: Look

    def seen(self, runs: Sequence[Run]) -> Seen | None:
        """The worst case, each by its best contender; None where nobody measured it.

        Contenders of a case may lie in several files; one that lies in two counts as the newer file has it.
        """
        newest: dict[tuple[str, str], dict[str, Seen]] = {}
        for run in sorted(runs, key=lambda run: run.environment.date):
            machine = run.environment.gpu or run.environment.processor
            if self.on not in (run.environment.gpu or "CPU"):
                continue
            for case in self._cases(run):
                found = newest.setdefault((machine, case.name), {})
                for contender, value, rounds in self.look(case):
                    found[contender] = Seen(machine, case.name, contender, value, rounds)
        best = [self._better(contenders.values()) for contenders in newest.values() if contenders]
        return self._worse(best) if best else None

    def met(self, value: float) -> bool:
        return value <= self.goal if self.at_most else value >= self.goal

    def _cases(self, run: Run) -> Iterator[Case]:
        for result in run.suites:
            if result.suite == self.suite:
                yield from (case for case in result.cases if self.cases in case.name)

    def _better(self, seen: Iterable[Seen]) -> Seen:
        return (min if self.at_most else max)(seen, key=lambda one: one.value)

    def _worse(self, seen: Iterable[Seen]) -> Seen:
        return (max if self.at_most else min)(seen, key=lambda one: one.value)


def _engine_time(case: Case) -> Values:
    for m in case.measurements:
        if m.name.startswith(tuple(BACKENDS)) and m.timing is not None:
            yield m.name, m.timing.median, ()


def _engine_over(other: str) -> Look:
    """How many times as fast as `other` each engine is."""

    def look(case: Case) -> Values:
        for m in case.measurements:
            if m.name.startswith(tuple(BACKENDS)):
                yield from _ratio(m, case.find(other))

    return look


def _over(name: str, other: str) -> Look:
    """How many times as fast as `other` the contender `name` is."""

    def look(case: Case) -> Values:
        found = case.find(name)
        if found is not None:
            yield from _ratio(found, case.find(other))

    return look


def _ratio(m: Measurement, other: Measurement | None) -> Values:
    if m.timing is not None and other is not None and other.timing is not None:
        rounds = tuple(slow / fast for slow, fast in zip(other.timing.samples, m.timing.samples, strict=True))
        yield m.name, other.timing.median / m.timing.median, rounds


def _share_of_copy(case: Case) -> Values:
    fused = case.find("fused")
    if fused is not None and fused.timing is not None:
        yield fused.name, fused.figures["share_of_copy"], ()


_CLIP_50 = "hero-sd15 256x256x16-cfg fp16 50 steps"
_STEP, _CLIP = ("H100", "unet-step", H100_STEP), ("H100", "end-to-end", _CLIP_50)
TARGETS = (
    Target("one step of hero-sd15, 256x256x16-cfg", 0.0166, "s", True, *_STEP, _engine_time),
    Target("the same step over eager-cached", 2.5, "x", False, *_STEP, _engine_over(BASELINE)),
    Target("the same step over torch.compile", 1.2, "x", False, *_STEP, _engine_over("compile")),
    Target(
        "the same step over torch.compile max-autotune with CUDA graphs",
        1.0,
        "x",
        False,
        *_STEP,
        _engine_over("compile-max-autotune"),
    ),
    Target("50 steps end to end, guided, 256x256x16", 1.0, "s", True, *_CLIP, _engine_time),
    Target("eager-cached over eager-uncached, 50 steps end to end", 1.5, "x", False, *_CLIP, _over(BASELINE, UNCACHED)),
    Target(
        "temporal attention at C = 320: share of a copy's bandwidth",
        0.8,
        "",
        False,
        "",
        "kernels",
        " C320 ",
        _share_of_copy,
    ),
    Target(
        "temporal attention over torch.compile, every level",
        1.0,
        "x",
        False,
        "",
        "kernels",
        "",
        _over("fused", "compile"),
    ),
    Target(
        "onnxruntime or aoti over eager-cached, hero-tiny end to end",
        1.5,
        "x",
        False,
        "CPU",
        "end-to-end",
        "hero-tiny",
        _engine_over(BASELINE),
    ),
)
