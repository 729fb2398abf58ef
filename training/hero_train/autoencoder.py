"""The small VAE: trained on single frames, so that its latents say where texture is as well as what colour."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

CELL = 8  # px a side of what one latent cell sees
WEIGHTS = {"l1": 1.0, "gradient": 0.5, "colour": 2.0, "energy": 0.5, "kl": 3e-4}
TRANSFORMED_SHARE = 0.25  # of the steps: these decode a scaled and turned latent image
SCALES = (0.5, 0.75, 1.0)
LATENT_NOISE = 0.1  # largest deviation of the noise on the latents, of their own


def autoencoder_loss(vae: AutoencoderKL, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    """Returns the weighted sum of L1, gradient, colour, energy and KL, and each term.

    The texture energy is the local mean of the squared gradient: a decoder that cannot place a blade of grass may
    still draw grass, where L1 alone would have it blur. In a quarter of the steps the latents are scaled and turned,
    and the decoder must return the frames scaled and turned (EQ-VAE, Kouzelis et al. 2025): a denoiser learns such
    latents sooner. The latents carry a little noise, because a sampler leaves some.

    Args:
        vae: The autoencoder. It may run under autocast.
        frames: [N, 3, H, W] in [-1, 1].
        generator: Of the noise and of the transformation.
    """
    posterior = DiagonalGaussianDistribution(vae.quant_conv(vae.encoder(frames)).float())
    noise, more = torch.randn(2, *posterior.mean.shape, generator=generator).to(frames)
    amount = LATENT_NOISE * torch.rand(len(frames), 1, 1, 1, generator=generator).to(frames)
    latents = posterior.mean + posterior.std * noise + amount * posterior.mean.detach().std() * more
    if torch.rand((), generator=generator) < TRANSFORMED_SHARE:
        scale = SCALES[int(torch.randint(len(SCALES), (), generator=generator))]
        turns = int(torch.randint(4, (), generator=generator))
        latents, frames = (_transformed(x, scale, turns) for x in (latents, frames))
    decoded = vae.decode(latents).sample.float()
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


def _transformed(x: Tensor, scale: float, turns: int) -> Tensor:
    smaller = x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear", antialias=True)
    return smaller.rot90(turns, (2, 3)).contiguous(memory_format=torch.channels_last)


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def energy(x: Tensor) -> Tensor:
    """Root of the mean squared gradient of each 8 x 8 px, [N, 1, H/8, W/8]."""
    dx, dy = gradients(x)
    squared = F.pad(dx, (0, 1)).square() + F.pad(dy, (0, 0, 0, 1)).square()
    return (F.avg_pool2d(squared.mean(1, keepdim=True), CELL) + 1e-6).sqrt()
