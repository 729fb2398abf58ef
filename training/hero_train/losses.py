"""The losses of the small VAE, and of its decoder when it is trained again, alone, to draw a likely picture.

Eight by eight pixels in four numbers leave texture undetermined, and the losses that compare pixels answer with a blur.
A sampler's latents are not an encoder's either: they hold some noise, and a decoder that never saw any draws it as
blotches. Where they are smooth a decoder that has seen encoded latents alone draws a blur.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

CELL = 8  # px a side of what one latent cell sees
VAE_WEIGHTS = {"l1": 1.0, "gradient": 0.5, "colour": 2.0, "energy": 0.5, "kl": 3e-4}
TRANSFORMED_SHARE = 0.25  # of the steps: these decode a scaled and turned latent image
SCALES = (0.5, 0.75, 1.0)
LATENT_NOISE = 0.1  # largest deviation of the noise on the latents, of their own
DECODER_WEIGHTS = {"coarse": 1.0, "l1": 0.3, "gradient": 0.2, "energy": 0.5, "contrast": 0.2}
DECODER_WEIGHTS |= {"change": 0.1, "features": 2.0, "adversarial": 0.1}  # of pairs, and by the discriminator
SAMPLED_ENERGY = 1.3  # sampled latents are smoother than encoded ones: they decode to 0.77 of the energy
DECODER_NOISE = 0.3  # standard deviation, of latents of variance 1; hero-tiny's sampler leaves 0.1 to 0.15
Judgement = tuple[list[Tensor], list[Tensor]]  # logits, features
SAMPLED_WEIGHTS = {"kept": 1.0, "energy": 0.4, "spread": 0.5, "lively": 0.1, "adversarial": 0.1}
# of the hidden frames' own. With 1 for both, the frames that it learns from get their texture; frames of other videos,
# where the sampler is smoother still, get a third
ENERGY_GAIN, SPREAD_GAIN = 8.0, 3.2


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
    loss = sum(VAE_WEIGHTS[name] * term for name, term in terms.items())
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


class PatchDiscriminator(nn.Module):
    """Real or decoded, a logit for each patch of 18 and of 30 px (PatchGAN, Isola et al. 2017, with spectral norm)."""

    def __init__(self):
        super().__init__()
        shapes = ((3, 32, 4, 2), (32, 64, 4, 2), (64, 64, 3, 1), (64, 128, 4, 2))  # channels, kernel, stride
        convolutions = [nn.Conv2d(*shape, padding=1) for shape in shapes]
        self.layers = nn.ModuleList(spectral_norm(convolution) for convolution in convolutions)
        self.small, self.large = nn.Conv2d(64, 1, 1), nn.Conv2d(128, 1, 1)

    def forward(self, frames: Tensor) -> Judgement:
        """frames: [N, 3, H, W]. Returns the logits of both patch sizes, and every layer's features."""
        features = [frames]
        for layer in self.layers:
            features.append(F.leaky_relu(layer(features[-1]), 0.2))
        return [self.small(features[3]), self.large(features[4])], features[1:]


def decoder_loss(
    decoded: Tensor, frames: Tensor, judged: Judgement, wanted: Judgement
) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum of all terms, and each. decoded, frames: [2·N, 3, H, W], successive frames in pairs.

    judged, wanted: the discriminator's view of `decoded` and of `frames`.

    L1 holds the picture, most of all the coarse one; how much texture there is, energy and contrast say, and what it
    looks like, the discriminator: by its logits and by its features (feature matching, Wang et al. 2018).
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
        # where texture cannot be foreseen the energy's L1 settles for its median, and most of a frame is flat
        "contrast": (_contrast(decoded) - _contrast(frames) - math.log(SAMPLED_ENERGY)).abs().mean(),
        # texture that hangs in the air while the scene moves, or flickers where it does not
        "change": (change(decoded) - change(frames)).abs().mean(),
        "features": torch.stack([(a - b.detach()).abs().mean() for a, b in layers]).mean(),
        "adversarial": -torch.stack([logits.mean() for logits in fake]).sum(),
    }
    loss = torch.stack([DECODER_WEIGHTS[name] * term for name, term in terms.items()]).sum()
    return loss, {name: float(value.detach()) for name, value in terms.items()}


def discriminator_loss(real: list[Tensor], decoded: list[Tensor]) -> Tensor:
    """Hinge loss of the logits, summed over the patch sizes."""
    pairs = zip(real, decoded, strict=True)
    return torch.stack([F.relu(1 - a).mean() + F.relu(1 + b).mean() for a, b in pairs]).sum()


def noisy(latents: Tensor, scaling_factor: float, generator: torch.Generator) -> Tensor:
    """latents: the VAE's own, [2·N, 4, h, w] in pairs, plus noise of a random deviation a pair.

    Uniform up to `DECODER_NOISE` of the scaled latents': a decoder of one deviation alone blurs what has less.
    """
    deviation = DECODER_NOISE / scaling_factor * torch.rand(len(latents) // 2, 1, 1, 1, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    return latents + (deviation.repeat_interleave(2, 0) * noise).to(latents)


def _contrast(x: Tensor) -> Tensor:
    """Logarithm of the mean squared gradient of the grey frame, [N]."""
    return torch.stack([d.square().mean((1, 2, 3)) for d in gradients(x.mean(1, keepdim=True))]).sum(0).add(1e-5).log()


def change(x: Tensor) -> Tensor:
    """Logarithm of the mean squared difference of the grey frames of each pair, [N]."""
    first, second = x.mean(1).unflatten(0, (-1, 2)).unbind(1)
    return (second - first).square().mean((1, 2)).add(1e-4).log()


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
    loss = torch.stack([SAMPLED_WEIGHTS[name] * term for name, term in terms.items()]).sum()
    return loss, {f"sampled {name}": float(value.detach()) for name, value in terms.items()}


def squared_gradient(frames: Tensor) -> Tensor:
    """Mean over all of the squared gradient of the grey frames."""
    return torch.stack([d.square().mean() for d in gradients(frames.mean(1, keepdim=True))]).sum()
