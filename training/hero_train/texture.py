"""The small VAE's decoder, trained a third time: to draw texture where the sampler's latents hold none.

A small denoiser's samples are smooth: between neighbouring cells they change by a fifth to a half of what encoded
frames do (mean square). A decoder that has seen encoded latents only draws what they say, a blur. What is hidden has
no truth that a loss could compare pixel by pixel; how much texture frames have there, and what it looks like, it can.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hero_train.autoencoder import energy, gradients
from hero_train.decoder import change

WEIGHTS = {"kept": 1.0, "energy": 0.4, "spread": 0.5, "lively": 0.1, "adversarial": 0.1}
# of the hidden frames' own. With 1 for both, the frames that it learns from get their texture; frames of other videos,
# where the sampler is smoother still, get a third
ENERGY_GAIN, SPREAD_GAIN = 8.0, 3.2


def texture_loss(
    drawn: Tensor, before: Tensor, hidden: Tensor, logits: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum of all terms, and each. All frames: [2·N, 3, H, W] in [-1, 1], successive ones in pairs.

    drawn: the decoded samples; before: the same by the decoder as it was when this training began, which holds their
    colours; hidden: the frames whose place they take; logits: the discriminator's, of `drawn`.
    """
    terms = {
        "kept": (F.avg_pool2d(drawn, 4) - F.avg_pool2d(before, 4)).abs().mean(),
        # both of the whole batch: frame by frame, flat ones would ask for as much as all others. The energy alone goes
        # into edges, as the mean of a square does; the mean of its root asks for texture between them
        "energy": (squared_gradient(drawn) / (ENERGY_GAIN * squared_gradient(hidden))).log().abs(),
        "spread": (energy(drawn).mean() / (SPREAD_GAIN * energy(hidden).mean())).log().abs(),
        "lively": (change(drawn) - change(hidden)).abs().mean(),
        "adversarial": -torch.stack([logit.mean() for logit in logits]).sum(),
    }
    loss = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
    return loss, {f"sampled {name}": float(value.detach()) for name, value in terms.items()}


def squared_gradient(frames: Tensor) -> Tensor:
    """Mean over all of the squared gradient of the grey frames."""
    return torch.stack([d.square().mean() for d in gradients(frames.mean(1, keepdim=True))]).sum()
