"""docs/performance.md: targets, what must be computed, every run, what builds took, and the notes of people."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.roofline import submodule_work
from benchmarks.schema import Measurement, OperatorTime, Run, SuiteResult, milliseconds, read_run
from benchmarks.suites import SUITES
from benchmarks.targets import TARGETS
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile

PAGE, NOTES, IMAGES = "performance.md", "performance-notes.md", "images"
COUNTED = (("hero-sd15", "fp16", 256), ("hero-sd15", "fp16", 512), ("hero-tiny", "fp32", 128))  # pixels a side
OPERATORS_SHOWN = 8
INTRODUCTION = f"""# Performance

Made by `python -m benchmarks report` from `benchmarks/results`; what people have to say is in [{NOTES}]({NOTES}) and \
repeated at the end. What a contender returned was compared with the reference before it was timed and after; what did \
not match has no time. A time is the median of interleaved repeats (on a GPU each the mean of several in a row), or of \
one run where the IQR says so, and stands beside the limit of the machine: the larger of operations over the measured \
rate of a matrix product and least bytes over the measured rate of a copy. `eager-cached` is this project's PyTorch \
model with the references cached, `eager-uncached` recomputes RefNet and flow encoder every step.
"""
NO_GPU = "Nothing on this page was measured on a GPU: **not yet measured on a GPU**. `make gpu-report` does it.\n"
WORK = """## What must be computed and moved

One call at 16 frames: operations of matrix products and convolutions, and the fewest bytes (every weight that is \
read, input and output once; activations between layers not counted).
"""
_Figure = Callable[[float], str]
FIGURES: tuple[tuple[str, str, _Figure], ...] = (  # how a figure's key ends, its unit, and its text
    ("bytes_per_s", "GB/s", lambda value: f"{value / 1e9:,.1f}"),
    ("frames_per_s", "frames/s", lambda value: f"{value:.2f}"),
    ("_bytes", " MiB", lambda value: f"{value / 2**20:,.0f}"),
    ("seconds_per_frame", "ms a frame", milliseconds),
    ("_s", " ms", milliseconds),
    ("", "", lambda value: f"{value:.2f}"),
)


def write_report(results: Path, docs: Path, plots: bool = False) -> None:
    """Write docs/performance.md from `results` and docs/performance-notes.md; `plots`: docs/images/*.png too."""
    runs = read_runs(results)
    docs.mkdir(parents=True, exist_ok=True)
    images: dict[str, list[str]] = {}
    if plots:
        from benchmarks.plots import draw_plots

        images = {name: draw_plots(Path(name).stem, run, docs / IMAGES) for name, run in runs.items()}
    notes = docs / NOTES
    lines = page(runs, read_builds(results), images, notes.read_text() if notes.is_file() else "")
    (docs / PAGE).write_text("\n".join(lines).rstrip() + "\n")


def read_runs(results: Path) -> dict[str, Run]:
    """By file name: every JSON file of a benchmark run. Raises UsageError for one that does not validate."""
    return {path.name: read_run(path) for path in _files(results, "suites")}


def read_builds(results: Path) -> dict[str, dict[str, Any]]:
    """By file name: every report that `hero-export build-engines --json` wrote."""
    return {path.name: json.loads(path.read_text()) for path in _files(results, "engines")}


def _files(results: Path, key: str) -> list[Path]:
    return [path for path in sorted(results.glob("*.json")) if key in json.loads(path.read_text())]


def page(
    runs: Mapping[str, Run], builds: Mapping[str, dict[str, Any]], images: Mapping[str, list[str]], notes: str
) -> Iterator[str]:
    """The lines of the page. images: file names by the run that they show."""
    yield INTRODUCTION
    on_gpu = {name: run for name, run in runs.items() if run.environment.gpu}
    if not on_gpu:
        yield NO_GPU
    yield from target_table(list(runs.values()))
    yield WORK
    yield from work_table()
    on_cpu = {name: run for name, run in runs.items() if name not in on_gpu}
    for title, chosen in (("Measured on a GPU", on_gpu), ("Measured on a CPU", on_cpu)):
        if chosen:
            yield f"## {title}\n"
        for suite, summary in SUITES.items():
            for name, run in chosen.items():
                if result := run.find(suite):
                    yield f"### {suite}: {summary}\n"
                    yield f"`{name}`: {machine(run)}\n"
                    yield from suite_section(result)
                    yield from (f"![{image}]({IMAGES}/{image})\n" for image in images.get(name, []))
    if builds:
        yield "## Building engines\n"
        for name, report in builds.items():
            yield from build_section(name, report)
    yield notes


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A Markdown table and the empty line after it."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(map(str, row))} |" for row in rows)
    yield ""


def target_table(runs: Sequence[Run]) -> Iterator[str]:
    """Every target, met or missed or not yet measured."""

    def text(value: float, unit: str) -> str:
        return f"{value:.2f}{unit}" if unit != "s" else f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"

    rows = []
    for target in TARGETS:
        goal = f"{'≤' if target.unit == 's' else '≥'} {text(target.goal, target.unit)}"
        seen = target.seen(runs)
        if seen is None:
            nothing = "not yet measured" if target.on == "CPU" else "**not yet measured on a GPU**"
            rows.append((target.text, goal, nothing, target.on or "any GPU"))
            continue
        note = seen.contender
        if len(seen.rounds) > 1:
            note += f", {min(seen.rounds):.2f} to {max(seen.rounds):.2f} in {len(seen.rounds)} rounds"
        verdict = "met" if target.met(seen.value) else "**missed**"
        rows.append((target.text, goal, f"{text(seen.value, target.unit)} ({note}): {verdict}", seen.machine))
    yield "## Targets\n"
    yield from table(["target", "goal", "measured", "on"], rows)
    yield "Of the contenders that a target allows the best, of its cases the worst. Rounds: the ratio turn by turn.\n"


def work_table() -> Iterator[str]:
    """What must be computed and moved, by submodule, preset and size: no machine is in it."""
    rows = []
    for submodule in SUBMODULES:
        for guided in (False, True) if submodule == "unet_step" else (False,):
            row = [f"`{submodule}`{' -cfg' if guided else ''}"]
            for preset, dtype, side in COUNTED:
                work = submodule_work(preset, dtype, submodule, Profile(side, side, 16, guided))
                tera = work.flops >= 1e12
                flops = f"{work.flops / 1e12:.3g} T" if tera else f"{work.flops / 1e9:.3g} G"
                row.append(f"{flops}FLOP, {work.bytes / 2**20:,.0f} MiB")
            rows.append(row)
    yield from table(["submodule", *(f"{preset} {side}x{side} {dtype}" for preset, dtype, side in COUNTED)], rows)


def machine(run: Run) -> str:
    """Where and with what a run was made, and the ceilings that it measured."""
    e, c = run.environment, run.ceilings
    versions = ", ".join(f"{name} {value}" for name, value in e.versions.items())
    where = f"{e.gpu} (SM {e.sm}, CUDA {e.cuda}, driver {e.driver}), " if e.gpu else ""
    return (
        f"{where}{e.processor}, {e.cores} cores, threads: {e.threads}, {e.memory_bytes / 2**30:.0f} GiB; "
        f"{_clocks(e.clocks)} under load; load average before the run {e.load_average}. {e.system}, Python {e.python}, "
        f"{versions}. Commit {e.code}, {e.date[:10]}.\n\nCeilings, the best seen before the suites and after each: "
        f"{c.flops_per_s / 1e12:.3g} TFLOP/s ({c.dtype} product of {c.matmul_size}x{c.matmul_size} matrices), "
        f"{c.bytes_per_s / 1e9:.4g} GB/s (copy of {c.copy_bytes >> 20} MiB)."
    )


def _clocks(clocks: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in clocks.items())


def suite_section(result: SuiteResult) -> Iterator[str]:
    """A row a contender of each case; what could not run, and why; the longest operators of a step."""
    pairs = [(case, m) for case in result.cases for m in case.measurements]
    keys = list(dict.fromkeys(key for _, m in pairs for key in m.figures))
    figures = {key: next(figure for figure in FIGURES if key.endswith(figure[0])) for key in keys}
    names = [(key.removesuffix(end) + unit).replace("_", " ") for key, (end, unit, _) in figures.items()]
    header = ["case", "contender", "median ms", "IQR ms", "vs baseline", "of limit", "relative L2", *names]
    rows = []
    for case, m in pairs:
        own = [text(m.figures[key]) if key in m.figures else "" for key, (_, _, text) in figures.items()]
        rows.append([case.name, m.name, *_timing(m), f"{m.verification.relative_l2:.0e}", *own])
    yield from table(header, rows)
    clocks = f"; clocks after them: {_clocks(result.clocks_after)}" if result.clocks_after else ""
    end = "" if result.finished else " The run was cut after these cases."
    yield f"They took {result.seconds:,.0f} s{clocks}.{end}\n"
    if result.unavailable:
        yield "Not available here:\n"
        yield from (f"- {missing.name}: {missing.reason}" for missing in result.unavailable)
        yield ""
    if result.operators:
        yield "Where the time of a step goes, by operator (what the profiler cannot see into is left out):\n"
        for contender, operators in result.operators.items():
            yield from operator_table(contender, operators)


def _timing(m: Measurement) -> list[str]:
    if m.timing is None:
        return ["**mismatch**", "", "", ""]
    share = f"{m.share_of_limit:.2f}" if m.share_of_limit else ""
    spread = "one run" if m.timing.iqr is None else milliseconds(m.timing.iqr)
    return [milliseconds(m.timing.median), spread, f"{m.ratio:.2f}x" if m.ratio else "", share]


def operator_table(contender: str, operators: Sequence[OperatorTime]) -> Iterator[str]:
    """The longest operators of one step."""
    if operators:
        yield f"{contender}:\n"
        rows = [
            (f"`{row.operator}`", row.calls, milliseconds(row.seconds), f"{row.share:.2f}")
            for row in operators[:OPERATORS_SHOWN]
        ]
        yield from table(["operator", "calls", "ms", "share"], rows)


def build_section(name: str, report: Mapping[str, Any]) -> Iterator[str]:
    """A heading, where it was built, and a row an engine."""
    where = f"{report['machine']['cores']} {report['machine']['processor']} cores"
    versions = ", ".join(f"{package} {version}" for package, version in report["versions"].items())
    yield f"### {report['model']}: {report['format']}, {report['dtype']}\n"
    yield f"`{name}`: {where}; {versions}. Each submodule is built in a process of its own. Random weights.\n"
    engines = report["engines"]
    counts = [key for key in ("nodes", "hero_nodes") if any(key in engine for engine in engines)]
    rows = [
        [
            f"`{engine['engine']}`",
            *(f"{engine[key]:,}" if key in engine else "" for key in counts),
            f"{engine['engine_bytes'] / 2**20:,.1f}",
            f"{engine['weights_bytes'] / 2**20:,.0f}",
            f"{engine['seconds']:,.0f}",
            f"{engine['peak_memory_bytes'] / 2**30:.1f}",
        ]
        for engine in engines
    ]
    counted = [key.replace("_", " ") for key in counts]
    yield from table(["engine", *counted, "engine MiB", "weights MiB", "seconds", "peak GiB"], rows)
