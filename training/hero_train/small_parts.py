"""Trains the parts that have no public small weights: the VAE and the image encoders."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hero_rt.models.hero import HeroModel
from hero_rt.pixels import to_signed
from hero_rt.stages.place import place_source
from hero_rt.stages.prepare import clip_pixels
from hero_train import losses
from hero_train.banks import FrameBank, SampledBank
from hero_train.examples import random_task
from hero_train.minimise import Terms, minimise
from hero_train.recipe import CropRecipe, SmallRecipe
from hero_train.videos import VideoWindows

FRAMES_FOR_SCALE = 128
TEMPERATURE = 0.1


def train_autoencoder(model: HeroModel, bank: FrameBank, recipe: CropRecipe, state: Path | None = None) -> None:
    """Train model["vae"] in place on single frames. Then set its scaling factor from its latents."""
    vae = model["vae"].to(memory_format=torch.channels_last)

    def loss(step: int) -> Terms:
        frames = bank.crops(step, recipe.batch, recipe.crop).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.bf16):
            return losses.autoencoder_loss(vae, frames, recipe.generator(step))

    minimise(vae, loss, recipe, "autoencoder", state)
    factor = losses.latent_scale(vae, iter(bank.wholes(FRAMES_FOR_SCALE).to(model.device).split(8)))
    vae.register_to_config(scaling_factor=factor)
    # a new config, because later models may share the dict of the preset
    model.config = replace(model.config, vae=model.config.vae | {"scaling_factor": factor})


def train_decoder(
    model: HeroModel, bank: FrameBank, recipe: CropRecipe, state: Path | None = None, sampled: SampledBank | None = None
) -> None:
    """Train the decoder of model["vae"] in place to draw texture. The encoder stays.

    sampled: samples of the model. With them, half of each batch is decoded from samples, by `texture_loss`.
    """
    vae = model["vae"].to(memory_format=torch.channels_last)
    before = copy.deepcopy(vae)  # keeps the colours
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        judge = losses.PatchDiscriminator().to(model.device)
    judging = torch.optim.AdamW(judge.parameters(), 1e-3, betas=(0.5, 0.99))
    pairs = recipe.batch // (4 if sampled else 2)

    def loss(step: int) -> Terms:
        pixels = bank.crops(step, pairs, recipe.crop, frames=2).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.bf16), torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mode().float()
            if sampled:
                hidden, samples = (x.to(model.device) for x in sampled.crops(step, pairs, recipe.crop))
                kept, latents = before.decode(samples).sample.float(), torch.cat([latents, samples])
            latents = losses.noisy(latents, vae.config.scaling_factor, recipe.generator(step))
        with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.bf16):
            decoded = vae.decode(latents).sample.float()
        _teach(judge, judging, torch.cat([pixels, hidden]) if sampled else pixels, decoded.detach())
        seen = decoded[: len(pixels)]
        value, terms = losses.decoder_loss(seen, pixels, judge(seen), judge(pixels))
        if sampled:
            drawn = decoded[len(pixels) :]
            more, others = losses.texture_loss(drawn, kept, hidden, judge(drawn)[0])
            value, terms = value + more, terms | others
        return value, terms

    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder])
    minimise(decoder, loss, recipe, "decoder", state, judge=(judge, judging))


def train_image_encoders(
    model: HeroModel, windows: VideoWindows, recipe: SmallRecipe, state: Path | None = None
) -> None:
    """Train model["image_encoder"] and model["image_encoder_2"] in place, each with its own loss."""
    encoders = nn.ModuleList([model["image_encoder"], model["image_encoder_2"]])

    def loss(step: int) -> Terms:
        canvases, wholes = (view.to(model.device) for view in view_pairs(windows, step * recipe.batch, recipe.batch))
        (first, found), (second, found_2) = (contrastive_loss(encoder, canvases, wholes) for encoder in encoders)
        return first + second, {"own scene found": found, "by the second": found_2}

    minimise(encoders, loss, recipe, "image encoders", state)


def _teach(judge: nn.Module, optimizer: torch.optim.Optimizer, real: Tensor, decoded: Tensor) -> None:
    """Take one step of the discriminator. Its parameters get gradients only here."""
    judge.requires_grad_(True)
    optimizer.zero_grad()
    losses.discriminator_loss(judge(real)[0], judge(decoded)[0]).backward()
    optimizer.step()
    judge.requires_grad_(False)


def contrastive_loss(encoder: nn.Module, canvases: Tensor, wholes: Tensor) -> tuple[Tensor, float]:
    """Return InfoNCE (van den Oord et al. 2018) between canvases [N, 3, 224, 224] and their whole frames.

    Both directions count, as in CLIP. Also return the share of canvases whose nearest whole frame is their own.
    """
    first, second = (F.normalize(encoder(pixels).image_embeds, dim=-1) for pixels in (canvases, wholes))
    logits = first @ second.T / TEMPERATURE
    own = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    return loss, float((logits.argmax(1) == own).float().mean())


def view_pairs(windows: VideoWindows, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Return canvases and whole frames of windows first, first + 1, ...: [count, 3, 224, 224] each.

    The canvas is of the first frame, the whole frame is the last. So moving objects do not identify a scene.
    """
    canvases, wholes = [], []
    for index in range(first, first + count):
        window, _ = windows[index]
        rng = np.random.default_rng((windows.seed, index, 1))
        canvas = random_task(window.shape[2], window.shape[1], rng).canvas
        canvases.append(place_source(canvas, canvas.source_of(window[:1])))
        wholes.append(to_signed(window[-1:]))
    return clip_pixels(torch.cat(canvases)), clip_pixels(torch.cat(wholes))
