"""The page: targets, what must be computed, every run, what builds took, and the notes as people wrote them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.registry import SUITES
from benchmarks.report.builds import build_section, read_builds
from benchmarks.report.plots import draw_plots, plots_of
from benchmarks.report.tables import machine_lines, operator_table, suite_table, target_table, work_table
from benchmarks.schema import Run, read_run

PAGE, NOTES, IMAGES = "performance.md", "performance-notes.md", "images"


def write_report(results: Path, docs: Path) -> None:
    """Write docs/performance.md and docs/images/*.png from `results` and docs/performance-notes.md."""
    runs = read_runs(results)
    docs.mkdir(parents=True, exist_ok=True)
    for name, run in runs.items():
        draw_plots(Path(name).stem, run, docs / IMAGES)
    notes = docs / NOTES
    text = page(runs, results, notes.read_text() if notes.is_file() else "")
    (docs / PAGE).write_text(text)


def read_runs(results: Path) -> dict[str, Run]:
    """By file name: every JSON file of a benchmark run. Raises UsageError for one that does not validate."""
    paths = sorted(results.glob("*.json"))
    return {path.name: read_run(path) for path in paths if "suites" in json.loads(path.read_text())}


def page(runs: Mapping[str, Run], results: Path, notes: str) -> str:
    return "\n".join(_lines(runs, results, notes)).rstrip() + "\n"


def _lines(runs: Mapping[str, Run], results: Path, notes: str) -> Iterator[str]:
    yield "# Performance"
    yield ""
    yield (
        f"Made by `python -m benchmarks report` from `benchmarks/results`; what people have to say is in [{NOTES}]"
        f"({NOTES}) and repeated at the end. What a contender returned was compared with the reference before it was "
        "timed and after; what did not match has no time. A time is the median of interleaved repeats (on a GPU each "
        "the mean of several in a row), or of one run where the IQR says so, and stands beside the limit of the "
        "machine: the larger of operations over the measured rate of a matrix product and least bytes over the "
        "measured rate of a copy. `eager-cached` is this project's PyTorch model with the references cached, "
        "`eager-uncached` recomputes RefNet and flow encoder every step."
    )
    yield ""
    on_gpu = {name: run for name, run in runs.items() if run.environment.gpu}
    if not on_gpu:
        yield "Nothing on this page was measured on a GPU: **not yet measured on a GPU**. `make gpu-report` does it."
        yield ""
    yield "## Targets"
    yield ""
    yield from target_table(list(runs.values()))
    yield "## What must be computed and moved"
    yield ""
    yield (
        "One call at 16 frames: operations of matrix products and convolutions, and the fewest bytes (every weight "
        "that is read, input and output once; activations between layers not counted)."
    )
    yield ""
    yield from work_table()
    for title, chosen in (
        ("Measured on a GPU", on_gpu),
        ("Measured on a CPU", {name: run for name, run in runs.items() if name not in on_gpu}),
    ):
        if chosen:
            yield f"## {title}"
            yield ""
            yield from _runs(chosen)
    builds = read_builds(results)
    if builds:
        yield "## Building engines"
        yield ""
        for name, report in builds.items():
            yield from build_section(name, report)
    if notes:
        yield notes.rstrip()


def _runs(runs: Mapping[str, Run]) -> Iterator[str]:
    """By suite, in the registry's order."""
    for suite in SUITES:
        for name, run in runs.items():
            result = run.find(suite.name)
            if result is None:
                continue
            yield f"### {suite.name}: {suite.summary}"
            yield ""
            yield f"`{name}`: " + next(lines := machine_lines(run))
            yield from lines
            yield from suite_table(result)
            for image, shows in plots_of(Path(name).stem, run):
                yield f"![{shows}]({IMAGES}/{image})"
                yield ""
            if result.operators:
                yield "Where the time of a step goes, by operator (what the profiler cannot see into is left out):"
                yield ""
                for contender, rows in result.operators.items():
                    if rows:
                        yield from operator_table(contender, rows)
