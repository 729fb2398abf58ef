"""Defines the quality targets of a checkpoint against the best baseline of each row."""

from statistics import fmean
from typing import Any, NamedTuple

MODEL = "HERO"
MEAN_BELOW, ANY_BELOW, PAN_ABOVE = 1.0, 3.0, 1.0  # dB
ENERGY = (0.5, 1.5)  # share of the truth's energy: less is blur, more is noise
ADJACENT_SSIM = 0.05  # distance to the truth's: more is flicker, or frozen frames

Row = dict[str, Any]


class Verdict(NamedTuple):
    """One target, the observed value, and whether it suffices."""

    target: str
    seen: str
    met: bool


def verdicts(rows: list[Row]) -> list[Verdict]:
    """Compare results with every target.

    Means are over the seeds too. The worst clip is the worst of any seed. A sampler draws one of many continuations.
    Their average is a blur with a higher PSNR; hence the margins. Pans take texture from other frames, which could hide
    a blur elsewhere, so the energy of the other clips is a target of its own.
    """
    baselines = sorted((row for row in rows if row["method"] != MODEL), key=lambda row: row["psnr"])
    best = {(row["clip"], row["ratio"]): row["psnr"] for row in baselines}
    own = [row | {"gain": row["psnr"] - best[row["clip"], row["ratio"]]} for row in rows if row["method"] == MODEL]
    clips = [row for row in own if not row["pan"]]
    mean, worst = fmean(row["gain"] for row in clips), min(row["gain"] for row in clips)
    pans = fmean(row["gain"] for row in own if row["pan"])
    energy, alone = (fmean(row["gradient_energy"] for row in chosen) for chosen in (own, clips))
    flicker = fmean(row["adjacent_ssim"] - row["adjacent_ssim_truth"] for row in own)
    least, most = ENERGY
    texture = f"mean gradient energy {least:g} to {most:g} of the truth's"
    adjacent = f"SSIM of adjacent frames within {ADJACENT_SSIM:g} of the truth's"
    return [
        Verdict(f"mean PSNR at most {MEAN_BELOW:g} dB below", f"{mean:+.2f} dB", mean >= -MEAN_BELOW),
        Verdict(f"no clip more than {ANY_BELOW:g} dB below", f"{worst:+.2f} dB", worst >= -ANY_BELOW),
        Verdict(f"pans at least {PAN_ABOVE:g} dB above", f"{pans:+.2f} dB", pans >= PAN_ABOVE),
        Verdict(texture, f"{energy:.2f}", least <= energy <= most),
        Verdict(f"{texture}, clips alone", f"{alone:.2f}", least <= alone <= most),
        Verdict(adjacent, f"{flicker:+.3f}", abs(flicker) <= ADJACENT_SSIM),
    ]
