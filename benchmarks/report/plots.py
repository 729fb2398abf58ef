"""Step time against eager, share of the limit, and latency against frames, one picture each a run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.schema import Case, Run

_COLOURS = {
    "eager-cached": "#4c72b0",
    "eager-uncached": "#a0a0a0",
    "compile": "#dd8452",
    "compile-max-autotune": "#e8b07f",
    "aoti": "#55a868",
    "aoti-max-autotune": "#2f7d43",
    "onnxruntime": "#c44e52",
    "tensorrt": "#8172b3",
    "tensorrt-rtx": "#937860",
}


def plots_of(stem: str, run: Run) -> Iterator[tuple[str, str]]:
    """(file name, what it shows) of every picture that a run's suites have data for."""
    if _timed(run, "unet-step"):
        yield f"{stem}-step-time.png", "One denoising step against eager, with the physical limit"
        yield f"{stem}-share-of-limit.png", "Share of the physical limit that each reaches"
    if _timed(run, "long-video"):
        yield f"{stem}-frames.png", "Latency and peak memory against the number of frames"


def draw_plots(stem: str, run: Run, folder: Path) -> None:
    """Write the pictures that `plots_of` lists."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    steps, long_video = _timed(run, "unet-step"), _timed(run, "long-video")
    machine = run.environment.gpu or run.environment.processor
    if steps:
        _draw_steps(steps, machine, folder / f"{stem}-step-time.png")
        _draw_shares(steps, machine, folder / f"{stem}-share-of-limit.png")
    if long_video:
        _draw_frames(long_video, machine, folder / f"{stem}-frames.png")


def _timed(run: Run, suite: str) -> list[Case]:
    """The cases with a time to draw: all contenders of a case may have failed."""
    result = run.find(suite)
    return [case for case in result.cases if any(m.timing for m in case.measurements)] if result else []


def _draw_steps(cases: Sequence[Case], machine: str, path: Path) -> None:
    figure, axes = _axes(len(cases))
    for axis, case in zip(axes, cases, strict=True):
        timed = [m for m in case.measurements if m.timing is not None]
        names = [m.name for m in timed]
        medians = [m.timing.median * 1e3 for m in timed if m.timing]
        spreads = [
            [1e3 * (m.timing.median - m.timing.lower_quartile) for m in timed if m.timing],
            [1e3 * (m.timing.upper_quartile - m.timing.median) for m in timed if m.timing],
        ]
        bars = axis.barh(names, medians, xerr=spreads, color=[_colour(name) for name in names], ecolor="#404040")
        axis.bar_label(bars, [f" {m.ratio:.2f}x" if m.ratio else "" for m in timed], padding=4)
        if case.limit:
            axis.axvline(case.limit * 1e3, color="black", linestyle="--", linewidth=1)
            axis.text(case.limit * 1e3, -0.42, " limit", fontsize=8, va="bottom")
        axis.set_xlim(0, max(medians) * 1.25)
        axis.set_ylim(len(names) - 0.5, -0.75)
        axis.set_title(case.name, fontsize=10)
        axis.set_xlabel("ms a step (median, quartiles; speed against eager-cached)")
    _save(figure, f"One denoising step, {machine}", path)


def _draw_shares(cases: Sequence[Case], machine: str, path: Path) -> None:
    figure, axes = _axes(len(cases))
    for axis, case in zip(axes, cases, strict=True):
        timed = [m for m in case.measurements if m.share_of_limit]
        shares = [m.share_of_limit or 0 for m in timed]
        bars = axis.barh([m.name for m in timed], shares, color=[_colour(m.name) for m in timed])
        axis.bar_label(bars, [f"{share:.2f}" for share in shares], padding=4)
        axis.axvline(1, color="black", linestyle="--", linewidth=1)
        axis.set_xlim(0, 1.1)
        axis.invert_yaxis()
        axis.set_title(case.name, fontsize=10)
        axis.set_xlabel("share of the limit (1: as fast as the machine can)")
    _save(figure, f"Share of the physical limit, {machine}", path)


def _draw_frames(cases: Sequence[Case], machine: str, path: Path) -> None:
    figure, (times, memory) = _axes(2)
    for mode, style in (("stream", "-"), ("joint", "--")):
        chosen = [(int(case.name.split()[-2]), case) for case in cases if f" {mode} " in case.name]
        for name in dict.fromkeys(m.name for _, case in chosen for m in case.measurements):
            points = [(frames, m) for frames, case in chosen if (m := case.find(name)) and m.timing]
            frames = [count for count, _ in points]
            look = {"color": _colour(name), "linestyle": style, "marker": "o", "label": f"{name}, {mode}"}
            times.plot(frames, [m.timing.median for _, m in points if m.timing], **look)
            memory.plot(frames, [m.figures["peak_bytes"] / 2**20 for _, m in points], **look)
    times.set_xscale("log", base=2)
    times.set_yscale("log")
    times.set_ylabel("seconds")
    memory.set_xscale("log", base=2)
    memory.set_ylim(0)
    memory.set_ylabel("peak MiB")
    for axis in (times, memory):
        axis.set_xlabel("frames")
        axis.grid(alpha=0.3)
    times.legend(fontsize=7)
    _save(figure, f"Long clips, {cases[0].name.split(' stream')[0].split(' joint')[0]}, {machine}", path)


def _axes(count: int):
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, count, figsize=(5.6 * count, 3.4), squeeze=False, layout="constrained")
    return figure, axes[0]


def _save(figure, title: str, path: Path) -> None:
    from matplotlib import pyplot

    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def _colour(name: str) -> str:
    return _COLOURS.get(name, "#777777")
