"""The small VAE: trained on single frames, so that its latents say where texture is as well as what colour."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

CELL = 8  # px a side of what one latent cell sees
WEIGHTS = {"l1": 1.0, "gradient": 0.5, "colour": 2.0, "energy": 0.5, "kl": 1e-5}


def autoencoder_loss(vae: AutoencoderKL, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    """frames: [N, 3, H, W] in [-1, 1]. The weighted sum of L1, gradient, colour, energy and KL, and each.

    The texture energy is the local mean of the squared gradient: a decoder that cannot place a blade of grass may
    still draw grass, where L1 alone would have it blur.
    """
    posterior = vae.encode(frames).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator, device="cpu").to(frames)
    decoded = vae.decode(posterior.mean + posterior.std * noise).sample
    terms = {
        "l1": (decoded - frames).abs().mean(),
        "gradient": sum((a - b).abs().mean() for a, b in zip(gradients(decoded), gradients(frames), strict=True)),
        # colour first: an untrained VAE spends hundreds of steps on edges in grey
        "colour": (F.avg_pool2d(decoded, CELL) - F.avg_pool2d(frames, CELL)).abs().mean(),
        "energy": (energy(decoded) - energy(frames)).abs().mean(),
        "kl": posterior.kl().mean() / posterior.mean[0].numel(),
    }
    loss = sum(WEIGHTS[name] * term for name, term in terms.items())
    return loss, {name: float(value.detach()) for name, value in terms.items()}


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, batches: Iterator[Tensor]) -> float:
    """1 / the latents' standard deviation: what brings them to the variance that the noise schedule assumes."""
    latents = torch.cat([vae.encode(frames).latent_dist.mode() for frames in batches])
    return 1 / float(latents.std())


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def energy(x: Tensor) -> Tensor:
    """Root of the mean squared gradient of each 8 x 8 px, [N, 1, H/8, W/8]."""
    dx, dy = gradients(x)
    squared = F.pad(dx, (0, 1)).square() + F.pad(dy, (0, 0, 0, 1)).square()
    return (F.avg_pool2d(squared.mean(1, keepdim=True), CELL) + 1e-6).sqrt()
