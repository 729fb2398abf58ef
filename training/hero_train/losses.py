"""Defines the losses of the small VAE, and of its decoder when only that is trained again.

A latent cell has four numbers for 8 x 8 pixels, so texture is undetermined, and losses that compare pixels lead to a
blur. Sampled latents also differ from encoded latents. They hold some noise, which a decoder draws as blotches if it
never saw noise. And they are smoother, which leads to a blur if the decoder saw only encoded latents.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

CELL = 8  # pixels a side of one latent cell
VAE_WEIGHTS = {"l1": 1.0, "gradient": 0.5, "colour": 2.0, "energy": 0.5, "kl": 3e-4}
TRANSFORMED_SHARE = 0.25  # share of steps that decode a scaled and rotated latent image
SCALES = (0.5, 0.75, 1.0)
LATENT_NOISE = 0.1  # largest standard deviation of noise on the latents, relative to theirs
DECODER_WEIGHTS = {"coarse": 1.0, "l1": 0.3, "gradient": 0.2, "energy": 0.5, "contrast": 0.2}
DECODER_WEIGHTS |= {"change": 0.1, "features": 2.0, "adversarial": 0.1}  # terms of pairs, and of the discriminator
SAMPLED_ENERGY = 1.3  # sampled latents are smoother than encoded ones: they decode to 0.77 of the energy
DECODER_NOISE = 0.3  # standard deviation, of latents of variance 1; hero-tiny's sampler leaves 0.1 to 0.15
Judgement = tuple[list[Tensor], list[Tensor]]  # logits, features
SAMPLED_WEIGHTS = {"kept": 1.0, "energy": 0.4, "spread": 0.5, "lively": 0.1, "adversarial": 0.1}
# goals relative to the hidden frames. With 1 for both, training frames get their texture, but other videos, whose
# samples are smoother still, get a third of it
ENERGY_GAIN, SPREAD_GAIN = 8.0, 3.2


def autoencoder_loss(vae: AutoencoderKL, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of L1, gradient, colour, energy and KL, and each term.

    Texture energy is the local mean of the squared gradient. It lets a decoder draw grass without placing every blade,
    where L1 alone leads to a blur. In a quarter of the steps the latents are scaled and rotated, and the decoder must
    return frames scaled and rotated alike (EQ-VAE, Kouzelis et al. 2025). A denoiser learns such latents sooner. Noise
    is added to the latents, because a sampler leaves some.

    Args:
        vae: The autoencoder. It may run under autocast.
        frames: [N, 3, H, W] in [-1, 1].
        generator: For noise and transformation.
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
        # without this term an untrained VAE learns grey edges for hundreds of steps before colours
        "colour": (F.avg_pool2d(decoded, CELL) - F.avg_pool2d(frames, CELL)).abs().mean(),
        "energy": (energy(decoded) - energy(frames)).abs().mean(),
        "kl": posterior.kl().mean() / posterior.mean[0].numel(),
    }
    loss = sum(VAE_WEIGHTS[name] * term for name, term in terms.items())
    return loss, {name: float(value.detach()) for name, value in terms.items()}


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, batches: Iterator[Tensor]) -> float:
    """Return the factor that scales latents to variance 1, which the noise schedule assumes."""
    latents = torch.cat([vae.encode(frames).latent_dist.mode() for frames in batches])
    return 1 / float(latents.std())


def _transformed(x: Tensor, scale: float, turns: int) -> Tensor:
    smaller = x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear", antialias=True)
    return smaller.rot90(turns, (2, 3)).contiguous(memory_format=torch.channels_last)


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def energy(x: Tensor) -> Tensor:
    """Return the root mean squared gradient of each 8 x 8 pixels, [N, 1, H/8, W/8]."""
    dx, dy = gradients(x)
    squared = F.pad(dx, (0, 1)).square() + F.pad(dy, (0, 0, 0, 1)).square()
    return (F.avg_pool2d(squared.mean(1, keepdim=True), CELL) + 1e-6).sqrt()


class PatchDiscriminator(nn.Module):
    """Classifies patches of 18 and 30 px as real or decoded (PatchGAN, Isola et al. 2017, spectral norm)."""

    def __init__(self):
        super().__init__()
        shapes = ((3, 32, 4, 2), (32, 64, 4, 2), (64, 64, 3, 1), (64, 128, 4, 2))  # channels, kernel, stride
        convolutions = [nn.Conv2d(*shape, padding=1) for shape in shapes]
        self.layers = nn.ModuleList(spectral_norm(convolution) for convolution in convolutions)
        self.small, self.large = nn.Conv2d(64, 1, 1), nn.Conv2d(128, 1, 1)

    def forward(self, frames: Tensor) -> Judgement:
        """Return the logits of both patch sizes and the features of every layer, for frames [N, 3, H, W]."""
        features = [frames]
        for layer in self.layers:
            features.append(F.leaky_relu(layer(features[-1]), 0.2))
        return [self.small(features[3]), self.large(features[4])], features[1:]


def decoder_loss(
    decoded: Tensor, frames: Tensor, judged: Judgement, wanted: Judgement
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of all terms, and each term. decoded, frames: [2·N, 3, H, W], pairs of successive frames.

    judged, wanted: outputs of the discriminator for `decoded` and for `frames`.

    L1, mostly of the coarse picture, keeps the content. Energy and contrast fix the amount of texture. The
    discriminator fixes its look, by logits and by features (feature matching, Wang et al. 2018).
    """
    fake, seen = judged
    _, real = wanted
    steps = zip(gradients(decoded), gradients(frames), strict=True)
    layers = zip(seen, real, strict=True)
    terms = {
        "coarse": (F.avg_pool2d(decoded, 4) - F.avg_pool2d(frames, 4)).abs().mean(),
        "l1": (decoded - frames).abs().mean(),
        "gradient": torch.stack([(a - b).abs().mean() for a, b in steps]).sum(),
        "energy": (energy(decoded) - energy(frames)).abs().mean(),
        # L1 of the energy leads to the median where texture is unpredictable, and most of a frame is flat
        "contrast": (_contrast(decoded) - _contrast(frames) - math.log(SAMPLED_ENERGY)).abs().mean(),
        # penalises texture that stays in place while the scene moves, or flickers while it does not
        "change": (change(decoded) - change(frames)).abs().mean(),
        "features": torch.stack([(a - b.detach()).abs().mean() for a, b in layers]).mean(),
        "adversarial": -torch.stack([logits.mean() for logits in fake]).sum(),
    }
    loss = torch.stack([DECODER_WEIGHTS[name] * term for name, term in terms.items()]).sum()
    return loss, {name: float(value.detach()) for name, value in terms.items()}


def discriminator_loss(real: list[Tensor], decoded: list[Tensor]) -> Tensor:
    """Return the hinge loss of the logits, summed over the patch sizes."""
    pairs = zip(real, decoded, strict=True)
    return torch.stack([F.relu(1 - a).mean() + F.relu(1 + b).mean() for a, b in pairs]).sum()


def noisy(latents: Tensor, scaling_factor: float, generator: torch.Generator) -> Tensor:
    """Add noise to latents [2·N, 4, h, w] in the VAE's own scale. Each pair has its own standard deviation.

    It is uniform up to `DECODER_NOISE` of the scaled latents. A decoder trained at one value blurs latents with less.
    """
    deviation = DECODER_NOISE / scaling_factor * torch.rand(len(latents) // 2, 1, 1, 1, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    return latents + (deviation.repeat_interleave(2, 0) * noise).to(latents)


def _contrast(x: Tensor) -> Tensor:
    """Return the logarithm of the mean squared gradient of the grey frame, [N]."""
    return torch.stack([d.square().mean((1, 2, 3)) for d in gradients(x.mean(1, keepdim=True))]).sum(0).add(1e-5).log()


def change(x: Tensor) -> Tensor:
    """Return the logarithm of the mean squared difference of the grey frames of each pair, [N]."""
    first, second = x.mean(1).unflatten(0, (-1, 2)).unbind(1)
    return (second - first).square().mean((1, 2)).add(1e-4).log()


def texture_loss(
    drawn: Tensor, before: Tensor, hidden: Tensor, logits: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of all terms, and each term. Frames: [2·N, 3, H, W] in [-1, 1], in pairs.

    drawn: decoded samples. before: the same, decoded with the weights from before this training; they keep the colours.
    hidden: the true frames. logits: of the discriminator, for `drawn`.
    """
    terms = {
        "kept": (F.avg_pool2d(drawn, 4) - F.avg_pool2d(before, 4)).abs().mean(),
        # means over the whole batch: per frame, flat frames would count as much as all others. Energy, the mean of a
        # square, alone sharpens edges; the mean of its root adds texture between them
        "energy": (squared_gradient(drawn) / (ENERGY_GAIN * squared_gradient(hidden))).log().abs(),
        "spread": (energy(drawn).mean() / (SPREAD_GAIN * energy(hidden).mean())).log().abs(),
        "lively": (change(drawn) - change(hidden)).abs().mean(),
        "adversarial": -torch.stack([logit.mean() for logit in logits]).sum(),
    }
    loss = torch.stack([SAMPLED_WEIGHTS[name] * term for name, term in terms.items()]).sum()
    return loss, {f"sampled {name}": float(value.detach()) for name, value in terms.items()}


def squared_gradient(frames: Tensor) -> Tensor:
    """Return the mean squared gradient of the grey frames."""
    return torch.stack([d.square().mean() for d in gradients(frames.mean(1, keepdim=True))]).sum()
