"""What a checkpoint must reach against the best baseline of each row, whether it does, and docs/quality.md."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hero_train.evaluation.evaluate import MODEL

MEAN_BELOW, ANY_BELOW, PAN_ABOVE = 1.0, 3.0, 1.0  # dB
ENERGY = (0.5, 1.5)  # of the truth's: less is blur, more is noise
ADJACENT_SSIM = 0.05  # from the truth's: more is flicker, or frames frozen

Row = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """One target, what was seen, and whether that is enough."""

    target: str
    seen: str
    met: bool


def verdicts(rows: list[Row]) -> list[Verdict]:
    """A sampler that draws one of many possible continuations loses PSNR to a blur that averages them: the margins.

    Means are over the seeds too; the worst clip is the worst of any seed. Texture that pans carry over from other
    frames could hide a blur of what no frame shows: the clips' energy is also named alone.
    """
    pans = [row["psnr"] - _best(rows, row) for row in _of(rows, MODEL) if row["pan"]]
    others = [row["psnr"] - _best(rows, row) for row in _of(rows, MODEL) if not row["pan"]]
    energies = {
        "": fmean(row["gradient_energy"] for row in _of(rows, MODEL)),
        ", clips alone": fmean(row["gradient_energy"] for row in _of(rows, MODEL) if not row["pan"]),
    }
    flicker = fmean(row["adjacent_ssim"] - row["adjacent_ssim_truth"] for row in _of(rows, MODEL))
    return [
        Verdict(f"mean PSNR at most {MEAN_BELOW:g} dB below", f"{fmean(others):+.2f} dB", fmean(others) >= -MEAN_BELOW),
        Verdict(f"no clip more than {ANY_BELOW:g} dB below", f"{min(others):+.2f} dB", min(others) >= -ANY_BELOW),
        Verdict(f"pans at least {PAN_ABOVE:g} dB above", f"{fmean(pans):+.2f} dB", fmean(pans) >= PAN_ABOVE),
        *(
            Verdict(
                f"mean gradient energy {ENERGY[0]:g} to {ENERGY[1]:g} of the truth's{which}",
                f"{energy:.2f}",
                ENERGY[0] <= energy <= ENERGY[1],
            )
            for which, energy in energies.items()
        ),
        Verdict(
            f"SSIM of adjacent frames within {ADJACENT_SSIM:g} of the truth's",
            f"{flicker:+.3f}",
            abs(flicker) <= ADJACENT_SSIM,
        ),
    ]


def seeds_of(rows: list[Row]) -> dict[int, list[Row]]:
    """By seed: the model's rows from it, and the baselines' rows."""
    baselines = [row for row in rows if row["method"] != MODEL]
    seeds = dict.fromkeys(row["seed"] for row in _of(rows, MODEL))
    return {seed: baselines + [row for row in _of(rows, MODEL) if row["seed"] == seed] for seed in seeds}


def _of(rows: list[Row], method: str) -> list[Row]:
    return [row for row in rows if row["method"] == method]


def _best(rows: list[Row], like: Row) -> float:
    same = [row for row in rows if (row["clip"], row["ratio"]) == (like["clip"], like["ratio"])]
    return max(row["psnr"] for row in same if row["method"] != MODEL)


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
