"""The decoder's second training: its losses against closed forms, its latents' noise, and that it helps."""

import numpy as np
import pytest
import torch

from hero_train.banks import FrameBank
from hero_train.losses import (
    DECODER_NOISE,
    DECODER_WEIGHTS,
    SAMPLED_ENERGY,
    PatchDiscriminator,
    decoder_loss,
    discriminator_loss,
    noisy,
)
from hero_train.recipe import CropRecipe
from hero_train.small_parts import train_decoder
from hero_train.videos import VideoWindows
from tests.clips import CARPHONE, read, write_clip


def judgement(logit: float, feature: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [torch.full((2, 1, 8, 8), logit), torch.full((2, 1, 4, 4), logit)], [torch.full((2, 4, 8, 8), feature)]


def test_a_decoder_pays_for_too_little_texture_by_its_logarithm():
    """Half the contrast is a quarter of the energy, of the picture and of what changes in it: log 4."""
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    _, terms = decoder_loss(frames / 2, frames, judgement(3.0, 0.5), judgement(0.0, 2.0))
    assert terms["contrast"] == pytest.approx(float(np.log(4 * SAMPLED_ENERGY)), abs=1e-3)
    assert terms["change"] == pytest.approx(float(np.log(4)), abs=1e-2)
    assert terms["l1"] == pytest.approx(float(frames.abs().mean()) / 2)
    assert terms["adversarial"] == -6
    assert terms["features"] == 1.5


def test_a_perfect_decoder_pays_for_the_sampler_and_the_discriminator_alone():
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    loss, _ = decoder_loss(frames, frames, judgement(3.0, 0.5), judgement(0.0, 0.5))
    assert float(loss) == pytest.approx(
        DECODER_WEIGHTS["contrast"] * np.log(SAMPLED_ENERGY) - 6 * DECODER_WEIGHTS["adversarial"]
    )


def test_the_discriminators_hinge_loss_by_hand():
    real, decoded = [torch.tensor([2.0, 0.5]), torch.tensor([0.0])], [torch.tensor([-2.0, 0.5]), torch.tensor([-1.0])]
    assert float(discriminator_loss(real, decoded)) == 0.25 + 0.75 + 1.0


@pytest.mark.parametrize(("index", "patch"), [pytest.param(0, 18, id="small"), pytest.param(1, 30, id="large")])
def test_a_logit_sees_a_patch_of_its_size(index, patch):
    frames = torch.zeros(1, 3, 64, 64, requires_grad=True)
    logits = PatchDiscriminator()(frames)[0][index]
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    rows = frames.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == patch


def test_latents_get_noise_of_a_uniform_deviation_that_a_pair_shares():
    """Of deviation s uniform in [0, m] the variance is m^2 / 3; a pair's two frames have one s and two noises."""
    scaling_factor, pairs = 0.5, 4000
    found = noisy(torch.ones(2 * pairs, 4, 4, 4), scaling_factor, torch.Generator().manual_seed(0)) - 1
    assert float(found.square().mean()) == pytest.approx((DECODER_NOISE / scaling_factor) ** 2 / 3, rel=0.03)
    first, second = found.unflatten(0, (-1, 2)).square().mean((2, 3, 4)).unbind(1)
    assert float(torch.corrcoef(torch.stack([first, second]))[0, 1]) > 0.8
    assert abs(float((found[::2] * found[1::2]).mean())) < 0.01


def test_training_a_decoder_restores_it_and_leaves_the_latents_alone(tmp_path):
    """From the trained VAE, its last layer halved: half the contrast, which training brings back."""
    from hero_rt.models import HeroModel

    model = HeroModel.from_pretrained("hero-tiny")
    vae = model["vae"]
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(0.5)
    write_clip(tmp_path / "real.mp4", read(CARPHONE, 12))
    windows = VideoWindows([tmp_path], 2, 64, seed=9, length=4)
    frames = torch.cat([torch.from_numpy(windows[i][0]) for i in range(4)]).permute(0, 3, 1, 2).float() / 127.5 - 1

    @torch.no_grad()
    def seen() -> tuple[torch.Tensor, float, float]:
        latents = vae.encode(frames).latent_dist.mode()
        decoded = vae.decode(latents).sample
        loss, _ = decoder_loss(decoded, frames, judgement(0.0, 0.0), judgement(0.0, 0.0))
        return latents, float(loss), float((decoded - frames).abs().mean())

    latents, loss_before, error_before = seen()
    train_decoder(model, FrameBank([tmp_path], 8, 96, seed=0), CropRecipe(steps=100, batch=4))
    after_latents, loss_after, error_after = seen()
    assert torch.equal(after_latents, latents)
    assert loss_after < 0.8 * loss_before
    assert error_after < 0.8 * error_before
    assert not any(p.requires_grad for p in vae.parameters())
