"""Training loops of the parts that a small checkpoint cannot take from elsewhere: its VAE and its image encoders."""

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hero_rt.models.hero import HeroModel
from hero_train.autoencoder import autoencoder_loss, latent_scale
from hero_train.decoder import PatchDiscriminator, decoder_loss, discriminator_loss, noisy
from hero_train.encoders import contrastive_loss, view_pairs
from hero_train.frame_bank import FrameBank
from hero_train.minimise import Learner, minimise
from hero_train.recipe import SmallRecipe
from hero_train.sampled_bank import SampledBank
from hero_train.texture import texture_loss
from hero_train.videos import VideoWindows

FRAMES_FOR_SCALE = 128


def train_autoencoder(model: HeroModel, bank: FrameBank, recipe: SmallRecipe, state: Path | None = None) -> None:
    """Train model["vae"] in place on single frames, and set its scaling factor from the latents it then makes."""
    vae = model["vae"].train().requires_grad_(True).to(memory_format=torch.channels_last)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        frames = bank.crops(step, recipe.batch, recipe.crop).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.bf16):
            return autoencoder_loss(vae, frames, recipe.generator(step))

    minimise(vae, loss, recipe, "autoencoder", state)
    vae.eval().requires_grad_(False)
    factor = latent_scale(vae, iter(bank.wholes(FRAMES_FOR_SCALE).to(model.device).split(8)))
    vae.register_to_config(scaling_factor=factor)
    # a new config: the dict of this one may be the preset's, which later models are made from
    model.config = replace(model.config, vae=model.config.vae | {"scaling_factor": factor})


def train_decoder(model: HeroModel, bank: FrameBank, recipe: SmallRecipe, state: Path | None = None) -> None:
    """Train the decoder of model["vae"] in place to draw texture; its latents, and all that learned on them, stay."""
    vae = model["vae"].to(memory_format=torch.channels_last)
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).train().requires_grad_(True)
    judge, judging = _discriminator(model, recipe.seed)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels = bank.crops(step, recipe.batch // 2, recipe.crop, frames=2).to(model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.bf16):
            with torch.no_grad():
                encoded = vae.encode(pixels).latent_dist.mode().float()
            latents = noisy(encoded, vae.config.scaling_factor, recipe.generator(step))
            decoded = vae.decode(latents).sample.float()
        _teach(judge, judging, pixels, decoded.detach())
        return decoder_loss(decoded, pixels, judge(decoded), judge(pixels))

    minimise(decoder, loss, recipe, "decoder", state, {"judge": (judge, judging)})
    decoder.eval().requires_grad_(False)


def train_texture(
    model: HeroModel, bank: FrameBank, sampled: SampledBank, recipe: SmallRecipe, state: Path | None = None
) -> None:
    """Train the decoder of model["vae"] in place, half on encoded frames and half on what the sampler makes."""
    vae = model["vae"].to(memory_format=torch.channels_last)
    before = copy.deepcopy(vae)
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).train().requires_grad_(True)
    judge, judging = _discriminator(model, recipe.seed)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels = bank.crops(step, recipe.batch // 4, recipe.crop, frames=2).to(model.device)
        hidden, latents = (x.to(model.device) for x in sampled.crops(step, recipe.batch // 4, recipe.crop))
        with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.bf16):
            with torch.no_grad():
                encoded = vae.encode(pixels).latent_dist.mode().float()
                kept = before.decode(latents).sample.float()
            latents = noisy(torch.cat([encoded, latents]), vae.config.scaling_factor, recipe.generator(step))
            decoded = vae.decode(latents).sample.float()
        _teach(judge, judging, torch.cat([pixels, hidden]), decoded.detach())
        seen, drawn = decoded.chunk(2)
        value, terms = decoder_loss(seen, pixels, judge(seen), judge(pixels))
        more, others = texture_loss(drawn, kept, hidden, judge(drawn)[0])
        return value + more, terms | others

    minimise(decoder, loss, recipe, "texture", state, {"judge": (judge, judging)})
    decoder.eval().requires_grad_(False)


def train_image_encoders(
    model: HeroModel, windows: VideoWindows, recipe: SmallRecipe, state: Path | None = None
) -> None:
    """Train model["image_encoder"] and model["image_encoder_2"] in place, each by its own loss, on the same windows."""
    encoders = nn.ModuleList([model["image_encoder"], model["image_encoder_2"]]).train().requires_grad_(True)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        canvases, wholes = (view.to(model.device) for view in view_pairs(windows, step * recipe.batch, recipe.batch))
        (first, found), (second, found_2) = (contrastive_loss(encoder, canvases, wholes) for encoder in encoders)
        return first + second, {"own scene found": found, "by the second": found_2}

    minimise(encoders, loss, recipe, "image encoders", state)
    encoders.eval().requires_grad_(False)


def _discriminator(model: HeroModel, seed: int) -> Learner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = PatchDiscriminator().to(model.device)
    return judge, torch.optim.AdamW(judge.parameters(), 1e-3, betas=(0.5, 0.99))


def _teach(judge: nn.Module, optimizer: torch.optim.Optimizer, real: Tensor, decoded: Tensor) -> None:
    """One step of the discriminator, whose parameters take no gradient outside of it."""
    judge.requires_grad_(True)
    optimizer.zero_grad()
    discriminator_loss(judge(real)[0], judge(decoded)[0]).backward()
    optimizer.step()
    judge.requires_grad_(False)
