"""docs/quality.md: the table and the targets, from the results that one command wrote."""

from statistics import fmean
from typing import Any

from hero_train.evaluation.evaluate import MODEL
from hero_train.evaluation.targets import Row, seeds_of, verdicts

COLUMNS = {
    "psnr": "PSNR",
    "mse": "MSE",
    "ssim": "SSIM",
    "gradient_energy": "gradient energy",
    "adjacent_ssim": "adjacent SSIM",
}
OPTIONAL = {"flicker": "flicker", "lpips": "LPIPS", "aafs": "AAFS"}


def quality_page(results: dict[str, Any], command: str) -> str:
    """Markdown. `results` as `evaluate` returns them."""
    settings = results["settings"]
    by_seed = {seed: verdicts(rows) for seed, rows in seeds_of(results["rows"]).items()}
    columns = COLUMNS | {name: title for name, title in OPTIONAL.items() if name in results["rows"][0]}
    lines = [
        "# Quality",
        "",
        f"{settings['model']}, {settings['steps']} DDIM steps, {settings['frames']} frames at {settings['size']} x "
        f"{settings['size']}, the left and right sides hidden; every figure is of the hidden region alone.",
        f"{MODEL}'s are means over {len(by_seed)} initial noises; the targets are also named for each of these.",
        f"Made by `{command}`; do not edit.",
        "",
        "| target, against the best baseline of each clip | seen | met |"
        + "".join(f" seed {seed} |" for seed in by_seed),
        f"|---|---|---|{'---|' * len(by_seed)}",
        *(
            f"| {v.target} | {v.seen} | {'yes' if v.met else 'no'} |"
            + "".join(f" {alone[place].seen} |" for alone in by_seed.values())
            for place, v in enumerate(verdicts(results["rows"]))
        ),
        "",
        "Gradient energy is the truth's = 1. Adjacent SSIM is between successive frames; the truth's own in brackets. "
        "Flicker is the mean change between successive frames over the truth's.",
        "",
        *(f"- No {name.upper()}: {reason.rstrip('.')}." for name, reason in results["missing"].items()),
        "",
        f"| clip | ratio | method | {' | '.join(columns.values())} |",
        f"|---|---|---|{'---|' * len(columns)}",
    ]
    for row in _means(results["rows"], [*columns, "adjacent_ssim_truth"]):
        figures = [
            f"{row['psnr']:.2f}",
            f"{row['mse']:.0f}",
            f"{row['ssim']:.3f}",
            f"{row['gradient_energy']:.2f}",
            f"{row['adjacent_ssim']:.3f} ({row['adjacent_ssim_truth']:.3f})",
        ]
        figures += [f"{row[name]:.3f}" for name in OPTIONAL if name in columns]
        lines.append(f"| {row['clip']} | {row['ratio']:g} | {row['method']} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _means(rows: list[Row], figures: list[str]) -> list[Row]:
    """One row for each clip, ratio and method: the mean over its seeds."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["clip"], row["ratio"], row["method"]), []).append(row)
    return [{**group[0], **{name: fmean(row[name] for row in group) for name in figures}} for group in groups.values()]
