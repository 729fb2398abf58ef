"""Writes docs/performance.md: targets, work, every run and every build, each with its notes."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.roofline import submodule_work
from benchmarks.schema import Measurement, Run, SuiteResult, milliseconds, read_run
from benchmarks.suites import SUITES
from benchmarks.targets import TARGETS
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile
from hero_train.evaluation.pages import table

PAGE, NOTES, IMAGES = "performance.md", "performance-notes.md", "images"
COUNTED = (("hero-sd15", "fp16", 256), ("hero-sd15", "fp16", 512), ("hero-tiny", "fp32", 128))  # pixels a side
OPERATORS_SHOWN = 8
INTRODUCTION = f"""# Performance

`python -m benchmarks report` makes this page from `benchmarks/results` and `docs/{NOTES}`; do not edit it.
"""
NO_GPU = "No figure on this page is from a GPU: **not yet measured on a GPU**. `make gpu-report` measures one.\n"
READING, BUILDING = "How to read the tables", "Building engines"  # sections of the notes that belong to no suite
_Figure = Callable[[float], str]
FIGURES: tuple[tuple[str, str, _Figure], ...] = (  # the end of a figure's key, its unit, and its text
    ("bytes_per_s", "GB/s", lambda value: f"{value / 1e9:,.1f}"),
    ("frames_per_s", "frames/s", "{:.2f}".format),
    ("_bytes", " MiB", lambda value: f"{value / 2**20:,.0f}"),
    ("seconds_per_frame", "ms a frame", milliseconds),
    ("_s", " ms", milliseconds),
    ("seconds", "seconds", "{:,.0f}".format),
    ("nodes", "nodes", "{:,}".format),
    ("", "", "{:.2f}".format),
)
BUILT = ("nodes", "hero_nodes", "engine_bytes", "weights_bytes", "seconds", "peak_memory_bytes")


def write_report(results: Path, docs: Path, plots: bool = False) -> None:
    """Write docs/performance.md from `results` and docs/performance-notes.md. `plots` adds docs/images/*.png."""
    runs, builds = read_results(results)
    docs.mkdir(parents=True, exist_ok=True)
    images: dict[str, list[str]] = {}
    if plots:
        from benchmarks.plots import draw_plots

        images = {name: draw_plots(Path(name).stem, run, docs / IMAGES) for name, run in runs.items()}
    notes = docs / NOTES
    lines = page(runs, builds, images, notes.read_text() if notes.is_file() else "")
    (docs / PAGE).write_text("\n".join(lines).rstrip() + "\n")


def read_results(results: Path) -> tuple[dict[str, Run], dict[str, dict[str, Any]]]:
    """Return benchmark runs and reports of `hero-export build-engines --json`, by file name. Raises UsageError."""
    files = {path: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    runs = {path.name: read_run(path) for path, data in files.items() if "suites" in data}
    return runs, {path.name: data for path, data in files.items() if "engines" in data}


def page(
    runs: Mapping[str, Run], builds: Mapping[str, dict[str, Any]], images: Mapping[str, list[str]], notes: str
) -> Iterator[str]:
    """Yield the lines of the page. images: file names of plots by run."""
    sections = split_notes(notes)
    yield INTRODUCTION
    on_gpu = {name: run for name, run in runs.items() if run.environment.gpu}
    if not on_gpu:
        yield NO_GPU
    yield from target_table(list(runs.values()))
    yield from take_note(sections, READING, titled=True)
    yield "## What must be computed and moved\n"
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
            if any(run.find(suite) for run in chosen.values()):
                yield from take_note(sections, f"{suite} {title.removeprefix('Measured ')}")
    if builds:
        yield f"## {BUILDING}\n"
        for name, report in builds.items():
            yield from build_section(name, report)
        yield from take_note(sections, BUILDING)
    for heading in [*sections]:
        yield from take_note(sections, heading, titled=True)


def split_notes(notes: str) -> dict[str, str]:
    """Return the sections of the notes by heading: a suite and its device ("kernels on a CPU"), or one of the page."""
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in f"\n{notes}".split("\n## ")[1:]}


def take_note(sections: dict[str, str], heading: str, titled: bool = False) -> Iterator[str]:
    """Yield and remove a section of the notes, if it exists. titled: with its heading."""
    if heading in sections:
        if titled:
            yield f"## {heading}\n"
        yield f"{sections.pop(heading)}\n"


def target_table(runs: Sequence[Run]) -> Iterator[str]:
    """Yield a table of targets: met, missed, or not yet measured."""

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
        spread = f", {min(seen.rounds):.2f} to {max(seen.rounds):.2f}" if len(seen.rounds) > 1 else ""
        note = f"{seen.contender}{spread} in {len(seen.rounds)} rounds" if spread else seen.contender
        verdict = "met" if target.met(seen.value) else "**missed**"
        rows.append((target.text, goal, f"{text(seen.value, target.unit)} ({note}): {verdict}", seen.machine))
    yield "## Targets\n"
    yield from table(["target", "goal", "measured", "on"], rows)
    yield "Shown is the best allowed contender of the worst case. Rounds: the ratio in each round.\n"


def work_table() -> Iterator[str]:
    """Yield a table of operations and bytes by submodule, preset and size. It depends on no machine."""

    def cell(submodule: str, guided: bool, preset: str, dtype: str, side: int) -> str:
        work = submodule_work(preset, dtype, submodule, Profile(side, side, 16, guided))
        flops = f"{work.flops / 1e12:.3g} T" if work.flops >= 1e12 else f"{work.flops / 1e9:.3g} G"
        return f"{flops}FLOP, {work.bytes / 2**20:,.0f} MiB"

    kinds = [*((submodule, False) for submodule in SUBMODULES), ("unet_step", True)]
    rows = [[f"`{n}`{' -cfg' if guided else ''}", *(cell(n, guided, *c) for c in COUNTED)] for n, guided in kinds]
    yield from table(["submodule", *(f"{preset} {side}x{side} {dtype}" for preset, dtype, side in COUNTED)], rows)


def machine(run: Run) -> str:
    """Return the machine, the software and the measured ceilings of a run."""
    e, c = run.environment, run.ceilings
    where = f"{e.gpu} (SM {e.sm}, CUDA {e.cuda}, driver {e.driver}), " if e.gpu else ""
    return (
        f"{where}{e.processor}, {e.cores} cores, threads: {e.threads}, {e.memory_bytes / 2**30:.0f} GiB; "
        f"{_listed(e.clocks)} under load; load average before the run {e.load_average}. {e.system}, Python {e.python}, "
        f"{_listed(e.versions)}. Commit {e.code}, {e.date[:10]}.\n\nCeilings, the best before suites and after each: "
        f"{c.flops_per_s / 1e12:.3g} TFLOP/s ({c.dtype} product of {c.matmul_size}x{c.matmul_size} matrices), "
        f"{c.bytes_per_s / 1e9:.4g} GB/s (copy of {c.copy_bytes >> 20} MiB)."
    )


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def suite_section(result: SuiteResult) -> Iterator[str]:
    """Yield a row per contender and case, what could not run, and the longest operators of a step."""
    pairs = [(case, m) for case in result.cases for m in case.measurements]
    titles, figures = figure_columns([m.figures for _, m in pairs])
    rows = [
        [case.name, m.name, *_timing(m), f"{m.verification.relative_l2:.0e}", *own]
        for (case, m), own in zip(pairs, figures, strict=True)
    ]
    header = ["case", "contender", "median ms", "IQR ms", "vs baseline", "of limit", "relative L2"]
    yield from table([*header, *titles], rows)
    clocks = f"; clocks after them: {_listed(result.clocks_after)}" if result.clocks_after else ""
    end = "" if result.finished else " The run ended early, after these cases."
    yield f"They took {result.seconds:,.0f} s{clocks}.{end}\n"
    if result.unavailable:
        yield "Not available here:\n"
        yield from (f"- {missing.name}: {missing.reason}" for missing in result.unavailable)
        yield ""
    if result.operators:
        yield "The time of a step by operator, for contenders that the profiler sees into:\n"
    for contender, operators in result.operators.items():
        if operators:
            longest = operators[:OPERATORS_SHOWN]
            rows = [[f"`{o.operator}`", str(o.calls), milliseconds(o.seconds), f"{o.share:.2f}"] for o in longest]
            yield f"{contender}:\n"
            yield from table(["operator", "calls", "ms", "share"], rows)


def figure_columns(found: Sequence[Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Return the titles of all figures, and the cells of each row."""
    keys = dict.fromkeys(key for figures in found for key in figures)
    kinds = {key: next(kind for kind in FIGURES if key.endswith(kind[0])) for key in keys}
    titles = [(key.removesuffix(end) + unit).replace("_", " ") for key, (end, unit, _) in kinds.items()]
    rows = [[text(figures[key]) if key in figures else "" for key, (_, _, text) in kinds.items()] for figures in found]
    return titles, rows


def _timing(m: Measurement) -> list[str]:
    if m.timing is None:
        return ["**mismatch**", "", "", ""]
    share = f"{m.share_of_limit:.2f}" if m.share_of_limit else ""
    spread = "one run" if m.timing.iqr is None else milliseconds(m.timing.iqr)
    return [milliseconds(m.timing.median), spread, f"{m.ratio:.2f}x" if m.ratio else "", share]


def build_section(name: str, report: Mapping[str, Any]) -> Iterator[str]:
    """Yield a heading, the machine of the build, and a row per engine."""
    where = f"{report['machine']['cores']} {report['machine']['processor']} cores"
    yield f"### {report['model']}: {report['format']}, {report['dtype']}\n"
    yield f"`{name}`: {where}; {_listed(report['versions'])}. A process per submodule, random weights.\n"
    built = [{key: engine[key] for key in BUILT if key in engine} for engine in report["engines"]]
    titles, figures = figure_columns(built)
    names = [f"`{engine['engine']}`" for engine in report["engines"]]
    yield from table(["engine", *titles], [[name, *row] for name, row in zip(names, figures, strict=True)])
