"""Results as Markdown."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.roofline import submodule_work
from benchmarks.runner import milliseconds
from benchmarks.schema import Environment, Measurement, OperatorTime, Run, SuiteResult
from benchmarks.targets import TARGETS
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile

COUNTED = (  # preset, dtype, canvas
    ("hero-sd15", "fp16", (256, 256)),
    ("hero-sd15", "fp16", (512, 512)),
    ("hero-tiny", "fp32", (128, 128)),
)
OPERATORS_SHOWN = 8


def target_table(runs: Sequence[Run]) -> Iterator[str]:
    """Every target, met or missed or not yet measured."""
    yield "| target | goal | measured | on |"
    yield "|---|---|---|---|"
    for target in TARGETS:
        goal = f"{'≤' if target.at_most else '≥'} {_value(target.goal, target.unit)}"
        seen = target.seen(runs)
        if seen is None:
            where = "CPU" if target.on == "CPU" else target.on or "any GPU"
            nothing = "not yet measured" if target.on == "CPU" else "**not yet measured on a GPU**"
            yield f"| {target.text} | {goal} | {nothing} | {where} |"
            continue
        verdict = "met" if target.met(seen.value) else "**missed**"
        value, note = _value(seen.value, target.unit), seen.contender
        if len(seen.rounds) > 1:
            note += f", {min(seen.rounds):.2f} to {max(seen.rounds):.2f} in {len(seen.rounds)} rounds"
        yield f"| {target.text} | {goal} | {value} ({note}): {verdict} | {seen.machine} |"
    yield ""
    yield "Of the contenders that a target allows the best, of its cases the worst. Rounds: the ratio turn by turn."
    yield ""


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
    return f"{value:.2f}{unit}"


def work_table() -> Iterator[str]:
    """What must be computed and moved, by submodule, preset and size: no machine is in it."""
    yield "| submodule | " + " | ".join(f"{p} {w}x{h} {d}" for p, d, (w, h) in COUNTED) + " |"
    yield "|---|" + "---|" * len(COUNTED)
    for submodule in SUBMODULES:
        for guided in (False, True) if submodule == "unet_step" else (False,):
            cells = []
            for preset, dtype, (width, height) in COUNTED:
                work = submodule_work(preset, dtype, submodule, Profile(width, height, 16, guided))
                cells.append(f"{_si(work.flops)}FLOP, {work.bytes / 2**20:,.0f} MiB")
            yield f"| `{submodule}`{' -cfg' if guided else ''} | {' | '.join(cells)} |"
    yield ""


def _si(value: float) -> str:
    for factor, prefix in ((1e12, "T"), (1e9, "G")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value / 1e6:.3g} M"


def machine_lines(run: Run) -> Iterator[str]:
    """Where and with what a run was made, and the ceilings that it measured."""
    e, c = run.environment, run.ceilings
    clocks = _clocks(e.clocks)
    versions = ", ".join(f"{name} {value}" for name, value in e.versions.items())
    where = f"{e.gpu} (SM {e.sm}, CUDA {e.cuda}, driver {e.driver}), " if e.gpu else ""
    yield (
        f"{where}{e.processor}, {e.cores} cores, threads: {e.threads}, {e.memory_bytes / 2**30:.0f} GiB; "
        f"{clocks} under load; load average before the run {e.load_average}. Python {e.python}, {versions}. "
        f"Commit {commit_name(e)}, {e.date[:10]}."
    )
    yield ""
    yield (
        f"Ceilings, the best seen before the suites and after each: {c.flops_per_s / 1e12:.3g} TFLOP/s ({c.dtype} "
        f"product of {c.matmul_size}x{c.matmul_size} matrices), {c.bytes_per_s / 1e9:.4g} GB/s (copy of "
        f"{c.copy_bytes >> 20} MiB)."
    )
    yield ""


def commit_name(environment: Environment) -> str:
    """Ten digits, and whether the code was the commit's."""
    changes = {True: ", with changes", False: "", None: ", unknown whether with changes"}
    return (environment.commit[:10] or "unknown") + changes[environment.dirty]


def _clocks(clocks: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in clocks.items())


def suite_table(result: SuiteResult) -> Iterator[str]:
    """A row a contender of each case; what could not run, and why, below."""
    figures = list(dict.fromkeys(key for c in result.cases for m in c.measurements for key in m.figures))
    limited = any(m.share_of_limit for c in result.cases for m in c.measurements)
    head = ["case", "contender", "median ms", "IQR ms", "vs baseline"]
    head += [*(["of limit"] if limited else []), "relative L2", *map(_figure_name, figures)]
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for case in result.cases:
        for m in case.measurements:
            cells = [case.name, m.name, *_timing(m, limited), f"{m.verification.relative_l2:.0e}"]
            cells += [_figure(key, m.figures[key]) if key in m.figures else "" for key in figures]
            yield f"| {' | '.join(cells)} |"
    yield ""
    if result.clocks_after:
        yield f"Clocks after it: {_clocks(result.clocks_after)}."
        yield ""
    if not result.finished:
        yield "The run was cut after these cases."
        yield ""
    if result.unavailable:
        yield "Not available here:"
        yield ""
        yield from (f"- {missing.name}: {missing.reason}" for missing in result.unavailable)
        yield ""


def _timing(m: Measurement, limited: bool) -> list[str]:
    if m.timing is None:
        return ["**mismatch**", "", "", *([""] if limited else [])]
    share = [f"{m.share_of_limit:.2f}" if m.share_of_limit else ""] if limited else []
    ratio = f"{m.ratio:.2f}x" if m.ratio else ""
    spread = "one run" if m.timing.iqr is None else milliseconds(m.timing.iqr)
    return [milliseconds(m.timing.median), spread, ratio, *share]


def _figure_name(key: str) -> str:
    for suffix, unit in (("_bytes", " MiB"), ("bytes_per_s", "GB/s"), ("_s", " ms")):
        if key.endswith(suffix):
            return key.removesuffix(suffix).replace("_", " ") + unit
    return {"seconds_per_frame": "ms a frame"}.get(key, key.replace("_", " "))


def _figure(key: str, value: float) -> str:
    if key.endswith("bytes_per_s"):
        return f"{value / 1e9:,.1f}"
    if key.endswith("_bytes"):
        return f"{value / 2**20:,.0f}"
    if key.endswith("_s") or key == "seconds_per_frame":
        return milliseconds(value)
    return f"{value:.2f}"


def operator_table(name: str, rows: Sequence[OperatorTime]) -> Iterator[str]:
    """The longest operators of one step."""
    yield f"{name}:"
    yield ""
    yield "| operator | calls | ms | share |"
    yield "|---|---|---|---|"
    for row in rows[:OPERATORS_SHOWN]:
        yield f"| `{row.operator}` | {row.calls} | {milliseconds(row.seconds)} | {row.share:.2f} |"
    yield ""
