"""Defines the project's speed targets, and finds their values in results."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.contenders import BASELINE, UNCACHED
from benchmarks.schema import Case, Run
from hero_rt.engines.backend import BACKENDS


class Seen(NamedTuple):
    """The value of one contender in one case. `rounds`: the ratio in each round."""

    machine: str
    contender: str
    value: float
    rounds: tuple[float, ...] = ()


class Target(NamedTuple):
    """One target: a ceiling for seconds ("s"), a floor for ratios ("x") and shares (""). `on` names the device.

    `cases` selects cases of `suite` by a part of the name. `who` selects contenders by the start of the name. The value
    is their median, their speed against `over`, or their `figure`.
    """

    text: str
    goal: float
    unit: str
    on: str
    suite: str
    cases: str
    who: tuple[str, ...]
    over: str = ""
    figure: str = ""

    def seen(self, runs: Sequence[Run]) -> Seen | None:
        """Return the worst case by its best contender, or None if it was not measured.

        Contenders of a case may be in several files. The newest file counts.
        """
        newest: dict[tuple[str, str], dict[str, Seen]] = {}
        for run in sorted(runs, key=lambda run: run.environment.date):
            if self.on not in (run.environment.gpu or "CPU"):
                continue
            for case in (c for result in run.suites if result.suite == self.suite for c in result.cases):
                if self.cases in case.name:
                    found = newest.setdefault((run.environment.machine, case.name), {})
                    found |= {seen.contender: seen for seen in self._values(case, run.environment.machine)}
        better, worse = (min, max) if self.unit == "s" else (max, min)
        best = [better(found.values(), key=lambda one: one.value) for found in newest.values() if found]
        return worse(best, key=lambda one: one.value) if best else None

    def met(self, value: float) -> bool:
        return value <= self.goal if self.unit == "s" else value >= self.goal

    def _values(self, case: Case, machine: str) -> Iterator[Seen]:
        other = case.find(self.over)
        for m, timing in case.timed():
            if not m.name.startswith(self.who):
                continue
            if self.figure:
                yield Seen(machine, m.name, m.figures[self.figure])
            elif not self.over:
                yield Seen(machine, m.name, timing.median)
            elif other is not None and other.timing is not None:
                turns = zip(other.timing.samples, timing.samples, strict=True)
                yield Seen(machine, m.name, other.timing.median / timing.median, tuple(a / b for a, b in turns))


_ENGINES = tuple(BACKENDS)
_STEP = "H100", "unet-step", "hero-sd15 256x256x16-cfg fp16"
_CLIP = "H100", "end-to-end", "hero-sd15 256x256x16-cfg fp16 50 steps"
_OVER_AUTOTUNED = "the same step over torch.compile max-autotune with CUDA graphs"
_OVER_UNCACHED = "eager-cached over eager-uncached, 50 steps end to end"
_BANDWIDTH = "temporal attention at C = 320: share of a copy's bandwidth"
_ON_CPU = "onnxruntime or aoti over eager-cached, hero-tiny end to end"
TARGETS = (
    Target("one step of hero-sd15, 256x256x16-cfg", 0.0166, "s", *_STEP, _ENGINES),
    Target("the same step over eager-cached", 2.5, "x", *_STEP, _ENGINES, BASELINE),
    Target("the same step over torch.compile", 1.2, "x", *_STEP, _ENGINES, "compile"),
    Target(_OVER_AUTOTUNED, 1.0, "x", *_STEP, _ENGINES, "compile-max-autotune"),
    Target("50 steps end to end, guided, 256x256x16", 1.0, "s", *_CLIP, _ENGINES),
    Target(_OVER_UNCACHED, 1.5, "x", *_CLIP, (BASELINE,), UNCACHED),
    Target(_BANDWIDTH, 0.8, "", "", "kernels", " C320 ", ("fused",), figure="share_of_copy"),
    Target("temporal attention over torch.compile, every level", 1.0, "x", "", "kernels", "", ("fused",), "compile"),
    Target(_ON_CPU, 1.5, "x", "CPU", "end-to-end", "hero-tiny", _ENGINES, BASELINE),
)
