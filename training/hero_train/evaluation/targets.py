"""What a checkpoint must reach, against the best baseline of each row; and whether it does."""

from statistics import fmean
from typing import Any, NamedTuple

MODEL = "HERO"
MEAN_BELOW, ANY_BELOW, PAN_ABOVE = 1.0, 3.0, 1.0  # dB
ENERGY = (0.5, 1.5)  # of the truth's: less is blur, more is noise
ADJACENT_SSIM = 0.05  # from the truth's: more is flicker, or frames frozen

Row = dict[str, Any]


class Verdict(NamedTuple):
    """One target, what was seen, and whether that is enough."""

    target: str
    seen: str
    met: bool


def verdicts(rows: list[Row]) -> list[Verdict]:
    """A sampler that draws one of many possible continuations loses PSNR to a blur that averages them: the margins.

    Means are over the seeds too; the worst clip is the worst of any seed. Texture that pans carry over from other
    frames could hide a blur of what no frame shows: the clips' energy is also named alone.
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
