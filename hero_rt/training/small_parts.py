"""Training loops of the parts that a small checkpoint cannot take from elsewhere: its VAE and its image encoders."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from hero_rt.models.hero import HeroModel
from hero_rt.training.autoencoder import autoencoder_loss, latent_scale
from hero_rt.training.decoder import PatchDiscriminator, decoder_loss, discriminator_loss, noisy
from hero_rt.training.encoders import contrastive_loss, view_pairs
from hero_rt.training.frame_bank import FrameBank
from hero_rt.training.sampled_bank import SampledBank
from hero_rt.training.texture import texture_loss
from hero_rt.training.videos import VideoWindows

CROP = 64  # px a side: 8 x 8 latent cells, of which the middle ones see all that reaches them
FRAMES_FOR_SCALE = 128


def train_autoencoder(model: HeroModel, bank: FrameBank, steps: int, batch: int, seed: int) -> None:
    """Train model["vae"] in place on single frames, and set its scaling factor from the latents it then makes."""
    vae = model["vae"].train().requires_grad_(True).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        return autoencoder_loss(vae, bank.crops(step, batch, CROP).to(model.device), generator)

    _minimise(vae, loss, steps, learning_rate=2e-3, desc="autoencoder")
    vae.eval().requires_grad_(False)
    factor = latent_scale(vae, iter(bank.wholes(FRAMES_FOR_SCALE).to(model.device).split(8)))
    vae.register_to_config(scaling_factor=factor)
    # a new config: the dict of this one may be the preset's, which later models are made from
    model.config = replace(model.config, vae=model.config.vae | {"scaling_factor": factor})


def train_decoder(model: HeroModel, bank: FrameBank, steps: int, batch: int, seed: int) -> None:
    """Train the decoder of model["vae"] in place to draw texture; its latents, and all that learned on them, stay."""
    vae = model["vae"].to(memory_format=torch.channels_last)
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).train().requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    judge, judging = _discriminator(model, seed)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels = bank.crops(step, batch // 2, CROP, frames=2).to(model.device)
        with torch.no_grad():
            latents = noisy(vae.encode(pixels).latent_dist.mode(), vae.config.scaling_factor, generator)
        decoded = vae.decode(latents).sample
        _teach(judge, judging, pixels, decoded.detach())
        return decoder_loss(decoded, pixels, judge(decoded), judge(pixels))

    _minimise(decoder, loss, steps, learning_rate=1e-3, desc="decoder")
    decoder.eval().requires_grad_(False)


def train_texture(model: HeroModel, bank: FrameBank, sampled: SampledBank, steps: int, batch: int, seed: int) -> None:
    """Train the decoder of model["vae"] in place, half on encoded frames and half on what the sampler makes."""
    vae = model["vae"].to(memory_format=torch.channels_last)
    before = copy.deepcopy(vae)
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).train().requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    judge, judging = _discriminator(model, seed)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels = bank.crops(step, batch // 4, CROP, frames=2).to(model.device)
        hidden, latents = (x.to(model.device) for x in sampled.crops(step, batch // 4, CROP))
        with torch.no_grad():
            encoded = vae.encode(pixels).latent_dist.mode()
            kept = before.decode(latents).sample
        latents = noisy(torch.cat([encoded, latents]), vae.config.scaling_factor, generator)
        decoded = vae.decode(latents).sample
        _teach(judge, judging, torch.cat([pixels, hidden]), decoded.detach())
        seen, drawn = decoded.chunk(2)
        value, terms = decoder_loss(seen, pixels, judge(seen), judge(pixels))
        more, others = texture_loss(drawn, kept, hidden, judge(drawn)[0])
        return value + more, terms | others

    _minimise(decoder, loss, steps, learning_rate=1e-3, desc="texture")
    decoder.eval().requires_grad_(False)


def train_image_encoders(model: HeroModel, windows: VideoWindows, steps: int, batch: int) -> None:
    """Train model["image_encoder"] and model["image_encoder_2"] in place, each by its own loss, on the same windows."""
    encoders = nn.ModuleList([model["image_encoder"], model["image_encoder_2"]]).train().requires_grad_(True)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        canvases, wholes = (view.to(model.device) for view in view_pairs(windows, step * batch, batch))
        (first, found), (second, found_2) = (contrastive_loss(encoder, canvases, wholes) for encoder in encoders)
        return first + second, {"own scene found": found, "by the second": found_2}

    _minimise(encoders, loss, steps, learning_rate=1e-3, desc="image encoders")
    encoders.eval().requires_grad_(False)


def _discriminator(model: HeroModel, seed: int) -> tuple[PatchDiscriminator, torch.optim.Optimizer]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = PatchDiscriminator().to(model.device)
    return judge, torch.optim.AdamW(judge.parameters(), 1e-3, betas=(0.5, 0.99))


def _teach(judge: PatchDiscriminator, optimizer: torch.optim.Optimizer, real: Tensor, decoded: Tensor) -> None:
    """One step of the discriminator, whose parameters take no gradient outside of it."""
    judge.requires_grad_(True)
    optimizer.zero_grad()
    discriminator_loss(judge(real)[0], judge(decoded)[0]).backward()
    optimizer.step()
    judge.requires_grad_(False)


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
