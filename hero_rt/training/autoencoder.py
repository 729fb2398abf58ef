"""The small VAE: trained on single frames, so that its latents say where texture is as well as what colour."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

CELL = 8  # px a side of what one latent cell sees
WEIGHTS = {"l1": 1.0, "gradient": 0.5, "colour": 2.0, "energy": 0.5, "kl": 1e-5}
SAMPLED_ENERGY = 1.3  # latents that were sampled are smoother than encoded ones: they decode to 0.77 of the energy
DECODER_WEIGHTS = {"coarse": 2.0, "l1": 0.15, "energy": 1.0, "contrast": 0.15, "change": 0.15, "adversarial": 0.05}


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
        "gradient": sum((a - b).abs().mean() for a, b in zip(_gradients(decoded), _gradients(frames), strict=True)),
        # colour first: an untrained VAE spends hundreds of steps on edges in grey
        "colour": (F.avg_pool2d(decoded, CELL) - F.avg_pool2d(frames, CELL)).abs().mean(),
        "energy": (_energy(decoded) - _energy(frames)).abs().mean(),
        "kl": posterior.kl().mean() / posterior.mean[0].numel(),
    }
    loss = sum(WEIGHTS[name] * term for name, term in terms.items())
    return loss, {name: float(value.detach()) for name, value in terms.items()}


class PatchDiscriminator(nn.Module):
    """Real or decoded, a logit for each patch of 18 px (PatchGAN, Isola et al. 2017, with spectral norm)."""

    def __init__(self, channels: int = 32):
        super().__init__()
        wide = 2 * channels
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(3, channels, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(channels, wide, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(wide, wide, 3, 1, 1)),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wide, 1, 1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        return self.layers(frames)


def decoder_loss(decoded: Tensor, frames: Tensor, judged: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Of a decoder that is to draw texture. decoded, frames: [2·N, 3, H, W], successive frames in pairs.

    judged: the discriminator's logits of `decoded`.

    Eight by eight pixels in four numbers leave texture undetermined, and L1 answers with its median, a blur. Here L1
    holds the coarse picture; how much texture there is, the energy says, and what it looks like, the discriminator.
    """
    terms = {
        "coarse": (F.avg_pool2d(decoded, 4) - F.avg_pool2d(frames, 4)).abs().mean(),
        "l1": (decoded - frames).abs().mean(),
        "energy": (_energy(decoded) - _energy(frames)).abs().mean(),
        # where texture cannot be foreseen the energy's L1 settles for its median, and most of a frame is flat
        "contrast": (_contrast(decoded) - _contrast(frames) - math.log(SAMPLED_ENERGY)).abs().mean(),
        # texture that hangs in the air while the scene moves
        "change": (_change(decoded) - _change(frames)).abs().mean(),
        "adversarial": -judged.mean(),
    }
    loss = torch.stack([DECODER_WEIGHTS[name] * term for name, term in terms.items()]).sum()
    return loss, {name: float(value.detach()) for name, value in terms.items()}


def discriminator_loss(real: Tensor, decoded: Tensor) -> Tensor:
    """Hinge loss of the logits."""
    return F.relu(1 - real).mean() + F.relu(1 + decoded).mean()


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, batches: Iterator[Tensor]) -> float:
    """1 / the latents' standard deviation: what brings them to the variance that the noise schedule assumes."""
    latents = torch.cat([vae.encode(frames).latent_dist.mode() for frames in batches])
    return 1 / float(latents.std())


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def _energy(x: Tensor) -> Tensor:
    """Root of the mean squared gradient of each 8 x 8 px, [N, 1, H/8, W/8]."""
    dx, dy = _gradients(x)
    squared = F.pad(dx, (0, 1)).square() + F.pad(dy, (0, 0, 0, 1)).square()
    return (F.avg_pool2d(squared.mean(1, keepdim=True), CELL) + 1e-6).sqrt()


def _contrast(x: Tensor) -> Tensor:
    """Logarithm of the mean squared gradient of the grey frame, [N]."""
    return torch.stack([d.square().mean((1, 2, 3)) for d in _gradients(x.mean(1, keepdim=True))]).sum(0).add(1e-5).log()


def _change(x: Tensor) -> Tensor:
    """Logarithm of the mean squared difference of the grey frames of each pair, [N]."""
    first, second = x.mean(1).unflatten(0, (-1, 2)).unbind(1)
    return (second - first).square().mean((1, 2)).add(1e-4).log()
