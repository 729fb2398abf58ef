"""What a checkpoint must reach, against the best baseline of each row; and whether it does."""

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
