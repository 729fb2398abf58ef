"""The decoder's third training: its loss against closed forms, the bank of samples, and that it draws more texture."""

import numpy as np
import pytest
import torch

from hero_rt.errors import UsageError
from hero_rt.models import HeroModel
from hero_train.banks import HIDDEN, FrameBank, SampledBank
from hero_train.losses import ENERGY_GAIN, SPREAD_GAIN, texture_loss
from hero_train.recipe import CropRecipe
from hero_train.small_parts import train_decoder
from tests.clips import CARPHONE, read, write_clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "real.mp4", read(CARPHONE, 20))
    return folder


@pytest.fixture(scope="module")
def model():
    return HeroModel.from_pretrained("hero-tiny")


@pytest.fixture(scope="module")
def bank(model, clips):
    return SampledBank(model, [clips], count=4, size=96, seed=0, sampling_steps=2)


def test_too_little_texture_costs_its_logarithm_and_the_colours_that_were_stay():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.rand(2, 3, 32, 32, generator=generator) - 0.5
    logits = [torch.full((2, 1, 8, 8), 3.0), torch.full((2, 1, 4, 4), 3.0)]
    _, terms = texture_loss(hidden / 2, hidden / 2 + 0.25, hidden, logits)
    assert terms["sampled energy"] == pytest.approx(np.log(4 * ENERGY_GAIN), abs=1e-4)  # a half, squared
    assert terms["sampled spread"] == pytest.approx(np.log(2 * SPREAD_GAIN), abs=1e-3)
    assert terms["sampled lively"] == pytest.approx(np.log(4), abs=1e-2)
    assert terms["sampled kept"] == pytest.approx(0.25, abs=1e-6)
    assert terms["sampled adversarial"] == -6


def test_texture_is_asked_of_the_batch_and_not_of_each_frame():
    """One flat pair and one of noise, in either order: the mean is the same."""
    noise, flat = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.zeros(2, 3, 32, 32)
    drawn, hidden = torch.cat([noise, flat]), torch.cat([flat, noise])
    _, terms = texture_loss(drawn, drawn, hidden, [torch.zeros(1)])
    assert terms["sampled energy"] == pytest.approx(np.log(ENERGY_GAIN), abs=1e-5)
    assert terms["sampled spread"] == pytest.approx(np.log(SPREAD_GAIN), abs=1e-5)


def test_a_crop_is_what_was_hidden_and_what_was_sampled_at_the_same_place(bank, model):
    pixels, latents = bank.crops(step=5, count=3, size=32)
    assert pixels.shape == (6, 3, 32, 32)
    assert latents.shape == (6, 4, 4, 4)
    again = bank.crops(step=5, count=3, size=32)
    assert torch.equal(pixels, again[0])
    assert torch.equal(latents, again[1])
    whole = (torch.from_numpy(bank.frames).float() / 127.5 - 1).permute(0, 1, 4, 2, 3)
    for first in range(0, 6, 2):
        places = [
            (window, top, left)
            for window, frame, top, left in np.ndindex(4, bank.frames.shape[1] - 1, 9, 9)
            if torch.equal(
                bank.latents[window, frame : frame + 2, :, top : top + 4, left : left + 4], latents[first : first + 2]
            )
            and torch.equal(
                whole[window, frame : frame + 2, :, 8 * top : 8 * top + 32, 8 * left : 8 * left + 32],
                pixels[first : first + 2],
            )
        ]
        assert len(places) == 1
        window, top, left = places[0]
        assert bank.hidden[window, top : top + 4, left : left + 4].float().mean() >= HIDDEN


def test_what_is_known_comes_back_from_the_sampler_and_what_is_hidden_does_not(bank, model):
    """The bank's latents are samples: close to the encoder's where the frame was shown, further away elsewhere."""
    vae = model["vae"]
    frames = torch.from_numpy(bank.frames).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    with torch.no_grad():
        encoded = torch.stack([vae.encode(window).latent_dist.mode() for window in frames])
    error = (bank.latents - encoded).square().mean((1, 2))
    assert error[bank.hidden].mean() > 2 * error[~bank.hidden].mean()


def test_windows_that_cannot_be_used_are_refused(model, clips, bank, monkeypatch):
    with pytest.raises(UsageError, match="multiple of 8"):
        SampledBank(model, [clips], count=1, size=100, seed=0)
    monkeypatch.setattr(bank, "hidden", torch.zeros_like(bank.hidden))
    with pytest.raises(UsageError, match="no square of 32 px is hidden in any of 4 windows"):
        bank.crops(step=0, count=1, size=32)


def test_training_draws_more_texture_from_samples_and_leaves_the_latents_alone(bank, clips):
    model = HeroModel.from_pretrained("hero-tiny")
    vae = model["vae"]
    pixels, latents = bank.crops(step=1000, count=8, size=32)

    @torch.no_grad()
    def seen() -> tuple[torch.Tensor, float]:
        decoded = vae.decode(latents).sample
        return vae.encode(pixels).latent_dist.mode(), float((decoded[..., 1:] - decoded[..., :-1]).square().mean())

    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(0.5)  # half the contrast
    encoded, before = seen()
    train_decoder(model, FrameBank([clips], 8, 96, seed=0), CropRecipe(steps=60, batch=8), sampled=bank)
    after_encoded, after = seen()
    assert torch.equal(after_encoded, encoded)
    assert after > 1.5 * before
    assert not any(p.requires_grad for p in vae.parameters())
