"""Training loops of the parts that a small checkpoint cannot take from elsewhere: its VAE and its image encoders."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hero_rt.models.hero import HeroModel
from hero_rt.training.autoencoder import (
    PatchDiscriminator,
    autoencoder_loss,
    decoder_loss,
    discriminator_loss,
    latent_scale,
)
from hero_rt.training.encoders import contrastive_loss, view_pairs
from hero_rt.training.videos import VideoWindows

FRAMES_FOR_SCALE = 128


def train_autoencoder(model: HeroModel, videos: list[Path], size: int, steps: int, batch: int, seed: int) -> None:
    """Train model["vae"] in place on single frames, and set its scaling factor from the latents it then makes."""
    vae = model["vae"].train().requires_grad_(True)
    windows = VideoWindows(videos, 1, size, seed, steps * batch + FRAMES_FOR_SCALE)
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels = _frames(windows, step * batch, batch, generator).to(model.device)
        return autoencoder_loss(vae, pixels, generator)

    _minimise(vae, loss, steps, learning_rate=2e-3, desc="autoencoder")
    vae.eval().requires_grad_(False)
    rest = (_frames(windows, steps * batch + i, 1).to(model.device) for i in range(FRAMES_FOR_SCALE))
    factor = latent_scale(vae, rest)
    vae.register_to_config(scaling_factor=factor)
    # a new config: the dict of this one may be the preset's, which later models are made from
    model.config = replace(model.config, vae=model.config.vae | {"scaling_factor": factor})


def train_decoder(model: HeroModel, videos: list[Path], size: int, steps: int, batch: int, seed: int) -> None:
    """Train the decoder of model["vae"] in place to draw texture; its latents, and all that learned on them, stay."""
    vae = model["vae"]
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).train().requires_grad_(True)
    pairs = batch // 2
    windows = VideoWindows(videos, 2, size, seed, steps * pairs)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = PatchDiscriminator().to(model.device)
    judging = torch.optim.AdamW(judge.parameters(), 1e-3, betas=(0.5, 0.99))

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels = _frames(windows, step * pairs, pairs, generator).to(model.device)
        with torch.no_grad():
            posterior = vae.encode(pixels).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(pixels)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        judging.zero_grad()
        discriminator_loss(judge(pixels), judge(decoded.detach())).backward()
        judging.step()
        return decoder_loss(decoded, pixels, judge(decoded))

    _minimise(decoder, loss, steps, learning_rate=1e-3, desc="decoder")
    decoder.eval().requires_grad_(False)


def train_image_encoders(model: HeroModel, videos: list[Path], size: int, steps: int, batch: int, seed: int) -> None:
    """Train model["image_encoder"] and model["image_encoder_2"] in place, each on its own."""
    windows = VideoWindows(videos, 8, size, seed, steps * batch)
    for part in ("image_encoder", "image_encoder_2"):
        encoder = model[part].train().requires_grad_(True)

        def loss(step: int, encoder: nn.Module = encoder) -> tuple[Tensor, dict[str, float]]:
            canvases, wholes = (view.to(model.device) for view in view_pairs(windows, step * batch, batch))
            value, found = contrastive_loss(encoder, canvases, wholes)
            return value, {"own scene found": found}

        _minimise(encoder, loss, steps, learning_rate=1e-3, desc=part)
        encoder.eval().requires_grad_(False)


def _frames(windows: VideoWindows, first: int, count: int, generator: torch.Generator | None = None) -> Tensor:
    """The frames of `count` windows, one after the other, [N, 3, H, W] in [-1, 1].

    With a generator every second window's colours are shuffled: photographs are blue, green and brown, and a red car
    came back yellow.
    """
    found = [torch.from_numpy(windows[index][0]) for index in range(first, first + count)]
    if generator is not None:
        found[::2] = [window[..., torch.randperm(3, generator=generator)] for window in found[::2]]
    return torch.cat(found).permute(0, 3, 1, 2).float() / 127.5 - 1


def _minimise(
    module: nn.Module,
    loss: Callable[[int], tuple[Tensor, dict[str, float]]],
    steps: int,
    learning_rate: float,
    desc: str,
) -> None:
    """AdamW, cosine decay, and a moving average of the weights over the last few hundred steps in their place."""
    optimizer = torch.optim.AdamW(module.parameters(), learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    average = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    with tqdm(total=steps, desc=desc) as bar:
        for step in range(steps):
            for group in optimizer.param_groups:
                warmup = min(1.0, (step + 1) / 100)
                group["lr"] = learning_rate * warmup * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
            value, terms = loss(step)
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    average[name].lerp_(parameter, max(0.005, 1 / (step + 1)))
            bar.update()
            bar.set_postfix({name: f"{term:.4g}" for name, term in terms.items()})
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(average[name])
