"""Draws step times beside their limits, and cost against the number of frames."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.schema import Case, Run

matplotlib.use("Agg")
from matplotlib import pyplot


def draw_plots(stem: str, run: Run, folder: Path) -> list[str]:
    """Draw the timed suites of a run as folder/`stem`-*.png. Return the names of the files."""
    drawn = []
    for suite, name, draw in (("unet-step", "step-time", _draw_steps), ("long-video", "frames", _draw_frames)):
        result = run.find(suite)
        # a case without times has no bars
        if cases := [case for case in (result.cases if result else []) if case.timed()]:
            folder.mkdir(parents=True, exist_ok=True)
            draw(cases, run.environment.machine, folder / f"{stem}-{name}.png")
            drawn.append(f"{stem}-{name}.png")
    return drawn


def _draw_steps(cases: Sequence[Case], machine: str, path: Path) -> None:
    """Draw a bar per contender, with its speed against the baseline and its share of the limit."""
    with _figure(len(cases), f"One denoising step, {machine}", path) as axes:
        for axis, case in zip(axes, cases, strict=True):
            timed = case.timed()
            medians = [1e3 * t.median for _, t in timed]
            lower = [1e3 * (t.median - t.lower_quartile) for _, t in timed]
            upper = [1e3 * (t.upper_quartile - t.median) for _, t in timed]
            bars = axis.barh([m.name for m, _ in timed], medians, xerr=[lower, upper], ecolor="#404040")
            axis.bar_label(bars, [f" {m.ratio or 0:.2f}x, {m.share_of_limit or 0:.2f} of limit" for m, _ in timed])
            axis.axvline((case.limit or 0) * 1e3, color="black", linestyle="--", linewidth=1)
            axis.set_xlim(0, max(medians) * 1.5)
            axis.invert_yaxis()
            axis.set(title=case.name, xlabel="ms per step: median, quartiles; speed to eager-cached; dashed: limit")


def _draw_frames(cases: Sequence[Case], machine: str, path: Path) -> None:
    """Draw latency and peak memory against the number of frames. Joint mode is dashed."""
    with _figure(2, f"Long clips, {machine}", path) as (times, memory):
        for mode, style in (("stream", "-"), ("joint", "--")):
            chosen = [(int(case.name.split()[-2]), case) for case in cases if f" {mode} " in case.name]
            for index, name in enumerate(dict.fromkeys(m.name for _, case in chosen for m in case.measurements)):
                points = [(n, m, m.timing) for n, case in chosen if (m := case.find(name)) and m.timing]
                frames = [n for n, _, _ in points]
                look = {"color": f"C{index}", "linestyle": style, "marker": "o", "label": f"{name}, {mode}"}
                times.plot(frames, [t.median for _, _, t in points if t], **look)
                memory.plot(frames, [m.figures["peak_bytes"] / 2**20 for _, m, _ in points], **look)
        times.set(xlabel="frames", xscale="log", ylabel="seconds", yscale="log")
        memory.set(xlabel="frames", xscale="log", ylabel="peak MiB", ylim=0)
        times.legend(fontsize=7)


@contextmanager
def _figure(axes: int, title: str, path: Path) -> Iterator[Sequence[Any]]:
    figure, row = pyplot.subplots(1, axes, figsize=(5.6 * axes, 3.4), squeeze=False, layout="constrained")
    yield row[0]
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
