"""Compares two result files."""

from collections.abc import Iterator

from benchmarks.schema import Measurement, Run, milliseconds


def compare_runs(before: Run, after: Run) -> Iterator[str]:
    """Return a line for each contender that both runs hold, then a line for each case that only one holds."""
    a, b = before.environment, after.environment
    yield f"before: {a.machine}, {a.code}, {a.date}"
    yield f"after:  {b.machine}, {b.code}, {b.date}"
    if (a.gpu, a.processor, a.threads) != (b.gpu, b.processor, b.threads):
        yield "the machines differ, so the times do not compare the code"
    old, new = _by_name(before), _by_name(after)
    for name in old | new:
        yield f"{name}  {_change(old.get(name), new.get(name))}"


def _by_name(run: Run) -> dict[str, Measurement]:
    cases = [(suite.suite, case) for suite in run.suites for case in suite.cases]
    return {f"{suite}  {case.name}  {m.name}": m for suite, case in cases for m in case.measurements}


def _change(old: Measurement | None, new: Measurement | None) -> str:
    if old is None or new is None:
        return "only after" if old is None else "only before"
    if old.timing is None or new.timing is None:
        sides = [side for side, m in (("before", old), ("after", new)) if m.timing is None]
        return f"mismatch {' and '.join(sides)}: no time"
    times = f"{milliseconds(old.timing.median)} -> {milliseconds(new.timing.median)} ms"
    first, second = sorted((old.timing, new.timing), key=lambda timing: timing.median)
    if second.lower_quartile <= first.upper_quartile:
        return f"{times}  within the spread"
    ratio = old.timing.median / new.timing.median
    return f"{times}  {ratio:.2f}x as fast" if ratio > 1 else f"{times}  {1 / ratio:.2f}x as slow"
