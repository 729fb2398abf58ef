"""The small VAE's and image encoders' losses against closed forms, and that training them helps."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hero_train.losses as module
from hero_rt.errors import UsageError
from hero_rt.models import HeroModel
from hero_train.banks import FrameBank
from hero_train.losses import autoencoder_loss, energy, latent_scale
from hero_train.recipe import CropRecipe, SmallRecipe
from hero_train.small_parts import contrastive_loss, train_autoencoder, train_decoder, train_image_encoders, view_pairs
from hero_train.videos import VideoWindows
from tests.clips import write_clip


def test_energy_of_a_sine_wave_is_its_closed_form():
    """sin(wx): forward differences have mean square 1 - cos(w), over whole periods."""
    period = 8
    x = torch.sin(2 * torch.pi * torch.arange(64) / period).expand(1, 3, 64, 64)
    inside = energy(x)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.full_like(inside, float((1 - np.cos(2 * np.pi / period)) ** 0.5)))


def test_a_perfect_decoder_leaves_only_the_divergence(monkeypatch):
    """Latents that are the frames, of a deviation of e^-10: the divergence is then (x² - 1 + 20) / 2."""

    class Identity(nn.Module):
        def encoder(self, frames):
            return torch.cat([frames, torch.full_like(frames, -20.0)], dim=1)

        def quant_conv(self, moments):
            return moments

        def decode(self, latents):
            return type("Output", (), {"sample": latents})

    frames = torch.rand(2, 3, 32, 32) * 2 - 1
    monkeypatch.setattr(module, "LATENT_NOISE", 0.0)
    for seed in range(24):  # a quarter of them are scaled and turned, and so is what they are compared with
        loss, terms = autoencoder_loss(Identity(), frames, torch.Generator().manual_seed(seed))
        assert max(terms[name] for name in ("l1", "gradient", "colour", "energy")) < 1e-3
        divergence = float(0.5 * (frames.square() + 19).mean())
        assert terms["kl"] == pytest.approx(divergence, rel=1e-4)
        assert float(loss) == pytest.approx(3e-4 * divergence, abs=2e-3)


def test_scaled_and_turned_latents_must_decode_to_frames_scaled_and_turned(monkeypatch):
    """A decoder that ignores its latents returns the frames as they were: of those steps alone the loss is large."""
    frames = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1

    class Fixed(nn.Module):
        def encoder(self, x):
            return torch.cat([x, torch.full_like(x, -20.0)], dim=1)

        def quant_conv(self, moments):
            return moments

        def decode(self, latents):
            size = latents.shape[-2:]
            return type("Output", (), {"sample": F.interpolate(frames, size, mode="bilinear", antialias=True)})

    losses = [autoencoder_loss(Fixed(), frames, torch.Generator().manual_seed(seed))[1]["l1"] for seed in range(200)]
    turned = np.mean([loss > 0.01 for loss in losses])
    assert 0.1 < turned < 0.3  # a quarter, of which a quarter is turned by nothing


def test_a_small_part_killed_and_resumed_ends_with_the_same_bits(small, videos, tmp_path):
    """The decoder's training, which has a discriminator of its own to go on with."""

    def trained(steps: int, state: Path | None) -> dict[str, torch.Tensor]:
        model = HeroModel.random(small.config)
        bank = FrameBank([videos], 6, 48, seed=0)
        train_decoder(model, bank, CropRecipe(steps=steps, batch=4, crop=32, save_every=2), state)
        return model["vae"].state_dict()

    whole = trained(6, None)
    monitor = tmp_path / "state"

    class Killed(Exception):
        pass

    class Bank(FrameBank):
        def crops(self, step, *arguments, **options):
            if step == 5:
                raise Killed
            return super().crops(step, *arguments, **options)

    with pytest.raises(Killed):
        train_decoder(
            HeroModel.random(small.config),
            Bank([videos], 6, 48, seed=0),
            CropRecipe(steps=6, batch=4, crop=32, save_every=2),
            monitor,
        )
    assert [path.name for path in monitor.iterdir()] == ["step-0000004"]
    resumed = trained(6, monitor)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    with pytest.raises(UsageError, match=r"trained otherwise \(steps was 6, is 9\)"):  # the rate fell from step 3 on
        trained(9, monitor)


def test_the_rate_of_a_small_part_rises_holds_and_falls_to_a_hundredth():
    settings = SmallRecipe(steps=1000, batch=1, learning_rate=1.0)
    rates = [settings.learning_rate_at(step) for step in range(1001)]
    assert rates[:100] == pytest.approx([(step + 1) / 100 for step in range(100)])
    assert set(rates[100:601]) == {1.0}
    assert rates[800] == pytest.approx(0.505)
    assert rates[1000] == pytest.approx(0.01)


def test_scaled_latents_have_unit_variance(small):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(4, 3, 32, 32, generator=generator) * 2 - 1 for _ in range(3)]
    scale = latent_scale(small["vae"], iter(batches))
    with torch.no_grad():
        latents = torch.cat([small["vae"].encode(frames).latent_dist.mode() for frames in batches])
    assert float((scale * latents).var()) == pytest.approx(1.0, rel=1e-4)


def test_infonce_by_hand():
    """Orthogonal embeddings: each finds its own at similarity 1, the others at 0."""

    class Lookup(nn.Module):
        def forward(self, pixels):
            return type("Output", (), {"image_embeds": 3 * pixels.flatten(1)[:, :4]})

    eye = torch.eye(4)
    loss, found = contrastive_loss(Lookup(), eye, eye)
    assert float(loss) == pytest.approx(float(np.log(1 + 3 * np.exp(-10.0))), abs=1e-6)
    assert found == 1
    _, found = contrastive_loss(Lookup(), eye, eye.flip(0))
    assert found == 0


def test_view_pairs_are_a_canvas_and_the_whole_frame(videos):
    windows = VideoWindows([videos], 4, 32, seed=0, length=6)
    canvases, wholes = view_pairs(windows, 0, 6)
    assert canvases.shape == wholes.shape == (6, 3, 224, 224)
    assert (canvases - wholes).abs().flatten(1).mean(1).min() > 0.05


def test_crops_are_cut_from_one_pair_at_one_place_and_repeat_with_their_step(videos):
    bank = FrameBank([videos], 5, 48, seed=3)
    crops = bank.crops(7, 4, 16, frames=2)
    assert crops.shape == (8, 3, 16, 16)
    torch.testing.assert_close(crops, FrameBank([videos], 5, 48, seed=3).crops(7, 4, 16, frames=2), rtol=0, atol=0)
    assert not torch.equal(crops, bank.crops(8, 4, 16, frames=2))
    levels = ((crops + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy().reshape(4, 2, 16, 16, 3)
    for index, crop in enumerate(levels):
        orders = [(0, 1, 2)] if index % 2 == 0 else list(permutations(range(3)))
        views = [crop[..., order][:, :, ::side] for order in orders for side in (1, -1)]
        places = [pair[:, y : y + 16, x : x + 16] for pair in bank.pairs for y in range(33) for x in range(33)]
        assert any(np.array_equal(view, place) for view in views for place in places)


def test_a_kept_bank_is_read_again_and_not_made_again(videos, tmp_path):
    made = FrameBank([videos], 5, 48, seed=3, kept=tmp_path / "state" / "frames.npy")
    read = FrameBank([tmp_path / "no videos are here"], 5, 48, seed=3, kept=tmp_path / "state" / "frames.npy")
    assert np.array_equal(made.pairs, read.pairs)
    with pytest.raises(UsageError, match="holds 5 pairs of 48 px; remove it"):
        FrameBank([videos], 6, 48, seed=3, kept=tmp_path / "state" / "frames.npy")


def test_image_encoders_learn_to_find_their_own_scene(small, tmp_path):
    """Scenes of one colour each: before, they are hardly told apart, a loss near log 4."""
    for index, colour in enumerate(np.random.default_rng(0).integers(0, 256, (12, 3), np.uint8)):
        write_clip(tmp_path / f"{index}.mp4", np.broadcast_to(colour, (8, 32, 32, 3)))
    model = HeroModel.initial(small.config, seed=0)
    windows = VideoWindows([tmp_path], 8, 32, seed=0, length=40 * 4)
    canvases, wholes = view_pairs(windows, 0, 4)

    @torch.no_grad()
    def losses() -> list[float]:
        parts = ("image_encoder", "image_encoder_2")
        return [float(contrastive_loss(model[part], canvases, wholes)[0]) for part in parts]

    before = losses()
    train_image_encoders(model, windows, SmallRecipe(steps=40, batch=4))
    assert all(after < 0.8 * first for after, first in zip(losses(), before, strict=True))
    assert not any(p.requires_grad for part in ("image_encoder", "image_encoder_2") for p in model[part].parameters())


def test_training_a_vae_brings_its_reconstruction_closer(small, videos):
    model = HeroModel.initial(small.config, seed=0)
    windows = VideoWindows([videos], 1, 32, seed=9, length=8)
    frames = torch.cat([torch.from_numpy(windows[i][0]) for i in range(8)]).permute(0, 3, 1, 2).float() / 127.5 - 1

    @torch.no_grad()
    def error() -> float:
        decoded = model["vae"].decode(model["vae"].encode(frames).latent_dist.mode()).sample
        return float((decoded - frames).abs().mean())

    before = error()
    train_autoencoder(model, FrameBank([videos], 16, 64, seed=0), CropRecipe(steps=40, batch=4, learning_rate=2e-3))
    assert error() < 0.8 * before
    assert model.config.vae["scaling_factor"] == model["vae"].config.scaling_factor != 0.18215
    assert small.config.vae["scaling_factor"] == 0.18215  # of the preset, which other models are made from
    assert not any(p.requires_grad for p in model["vae"].parameters())
