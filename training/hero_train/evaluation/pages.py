"""Writes docs/quality.md and docs/ablations.md from the results of one command."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from hero_train.evaluation.targets import MODEL, Row, verdicts

FIGURES = {  # a title and a format
    "psnr": ("PSNR", ".2f"),
    "mse": ("MSE", ".0f"),
    "ssim": ("SSIM", ".3f"),
    "gradient_energy": ("gradient energy", ".2f"),
    "adjacent_ssim": ("adjacent SSIM", ".3f"),
    "flicker": ("flicker", ".3f"),
    "lpips": ("LPIPS", ".3f"),
    "aafs": ("AAFS", ".3f"),
}
TABLES = {
    4: "Table 4: the blend of neighbouring frames (IM³)",
    5: "Table 5: flow encoder and RefNet",
    7: "Table 7: image encoders",
}
ABLATED = ("psnr", "ssim", "gradient_energy", "adjacent_ssim")
WHOLE, AGAIN = "whole", "whole, another seed"


def quality_page(results: dict[str, Any], command: str) -> str:
    """Return Markdown. `results` are those of `evaluate`."""
    settings, rows = results["settings"], results["rows"]
    seeds = dict.fromkeys(row["seed"] for row in rows if row["method"] == MODEL)
    by_seed = [verdicts([row for row in rows if row["method"] != MODEL or row["seed"] == seed]) for seed in seeds]
    seen = [
        [every.target, every.seen, "yes" if every.met else "no", *(one.seen for one in alone)]
        for every, *alone in zip(verdicts(rows), *by_seed, strict=True)
    ]
    names = [name for name in FIGURES if name in rows[0]]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["clip"], f"{row['ratio']:g}", row["method"]), []).append(row)
    means = {
        key: {name: fmean(row[name] for row in group) for name in (*names, "adjacent_ssim_truth")}
        for key, group in groups.items()
    }
    lines = [
        "# Quality",
        "",
        f"{settings['model']}, {settings['steps']} DDIM steps, {settings['frames']} frames at {settings['size']} x "
        f"{settings['size']}, the left and right sides hidden; figures are of the hidden region only.",
        f"{MODEL}'s figures are means over {len(seeds)} initial noises. Targets are checked for each noise too.",
        f"Made by `{command}`; do not edit.",
        "",
        *table(
            ["target, against the best baseline of each clip", "seen", "met", *(f"seed {seed}" for seed in seeds)], seen
        ),
        "Gradient energy is the truth's = 1. Adjacent SSIM is between successive frames; the truth's own in brackets. "
        "Flicker is the mean change between successive frames over the truth's.",
        "",
        *(f"- No {name.upper()}: {reason.rstrip('.')}." for name, reason in results["missing"].items()),
        "",
        *table(
            ["clip", "ratio", "method", *(FIGURES[name][0] for name in names)],
            ([*key, *_texts(row, names)] for key, row in means.items()),
        ),
    ]
    return "\n".join(lines)


def ablations_page(results: dict[str, Any], command: str) -> str:
    """Return Markdown. results: {"settings": ..., "rows": those of `run_variants`}."""
    settings, rows = results["settings"], results["rows"]
    losses = {row["variant"]: row["loss"] for row in rows}
    spread = abs(losses[AGAIN] - losses[WHOLE])

    def against_whole(variant: str) -> str:
        change = losses[variant] - losses[WHOLE]
        return "" if variant == WHOLE else f"{change:+.4f}" + (" (within the spread)" if abs(change) <= spread else "")

    lines = [
        "# Ablations",
        "",
        f"The paper's ablations on {settings['model']}: every variant trained for {settings['training_steps']} steps "
        f"at {settings['size']} px from the same start, with the same windows and noise in the same order; then the "
        f"hidden region of held-out clips and pans at two ratios, {settings['steps']} DDIM steps.",
        f"Made by `{command}`; do not edit.",
        "",
        "Loss is Eq. 1 on the held-out clips' hidden region, at fixed timesteps and noise; lower is better, and it "
        "varies least. `whole, another seed` is the whole model trained again: a smaller difference from `whole` means "
        "nothing. Gradient energy is the truth's = 1.",
        "",
    ]
    for number, title in TABLES.items():
        header = ["variant", "loss", "against whole", *(FIGURES[name][0] for name in ABLATED)]
        chosen = [(row["variant"], row) for row in rows if number in row["tables"]]
        cells = ([name, f"{row['loss']:.4f}", against_whole(name), *_texts(row, ABLATED)] for name, row in chosen)
        lines += [f"## {title}", "", *table(header, cells)]
    return "\n".join(lines)


def _texts(row: Row, names: Iterable[str]) -> list[str]:
    """Format figures for a table. The truth's own adjacent SSIM stands in brackets."""
    truth = {"adjacent_ssim": f" ({row['adjacent_ssim_truth']:.3f})"}
    return [f"{row[name]:{FIGURES[name][1]}}{truth.get(name, '')}" for name in names]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Return a Markdown table and an empty line."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    yield from (f"| {' | '.join(map(str, row))} |" for row in rows)
    yield ""
