"""Ablations: what a variant holds at zero, the loss it is told by, a whole row at the smallest size, and the page."""

import json
from pathlib import Path

import pytest
import torch

from hero_rt.models import HeroConfig, HeroModel
from hero_rt.sampling import make_scheduler
from hero_rt.spec.canvas import Canvas
from hero_train.ablations.variants import TIMESTEPS, VARIANTS, AblationRun, Variant, held_out_loss
from hero_train.evaluation.pages import ablations_page
from hero_train.objective import HeroObjective
from hero_train.recipe import Recipe
from tests.clips import BIG_BUCK_BUNNY, CARPHONE, small_clip


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_names_parameters_that_there_are(variant):
    model = HeroModel.initial(HeroConfig.from_preset("hero-tiny"), seed=0)
    model.set_ofe_timestep(variant.ofe_timestep)
    objective = HeroObjective(model, make_scheduler(model.config.scheduler), known_weight=1)
    objective.hold_at_zero(variant.hold_at_zero)
    held = sum(not parameter.requires_grad for parameter in objective.parameters())
    assert (held > 0) == bool(variant.hold_at_zero)


def test_held_out_loss_of_a_model_that_says_zero_is_the_mean_square_of_the_hidden_velocity():
    config = HeroConfig.from_preset("hero-tiny")
    model = HeroModel.initial(config, seed=0)
    with torch.no_grad():
        for parameter in model["unet"].conv_out.parameters():
            parameter.zero_()
    truth, canvas = small_clip(config.num_frames, 64, 48), Canvas(40, 48, 0, 8, 0, 16)
    found = held_out_loss(model, [(truth, canvas)], seed=3)

    with torch.no_grad():
        pixels = torch.from_numpy(truth).permute(0, 3, 1, 2).float() / 127.5 - 1
        vae = model["vae"]
        latents = (vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor).double()
    noise = torch.randn(TIMESTEPS, *latents.shape, generator=torch.Generator().manual_seed(3)).double()
    kept = make_scheduler(config.scheduler).alphas_cumprod.double()
    squares = [
        # the velocity of Salimans and Ho 2022; cells 0, 1 and 7 of 8 hold the 16 and 8 hidden columns
        (kept[t].sqrt() * row - (1 - kept[t]).sqrt() * latents)[..., [0, 1, 7]].square().mean()
        for t, row in zip(range(50, 1000, 100), noise, strict=True)
    ]
    assert found == pytest.approx(float(torch.stack(squares).mean()), rel=1e-5)


def test_a_row_is_trained_measured_and_kept(tmp_path):
    HeroModel.initial(HeroConfig.from_preset("hero-tiny"), seed=0).save_pretrained(tmp_path / "start")
    recipe = Recipe(videos=(Path(CARPHONE).parent,), steps=1, size=32)
    run = AblationRun(tmp_path / "start", recipe, (BIG_BUCK_BUNNY,), 1, tmp_path / "runs")
    variant = Variant("no IM3", (4,), ("*.im3_alpha",))
    row = run.row(variant, threads=torch.get_num_threads())
    assert (row["variant"], list(row["tables"])) == ("no IM3", [4])
    assert 0 < row["loss"] < 100
    assert 0 < row["psnr"] < 60
    assert json.loads((tmp_path / "runs/no-IM3/figures.json").read_text())["loss"] == row["loss"]
    trained = HeroModel.from_pretrained(tmp_path / "runs/no-IM3/model")
    assert all(float(p) == 0 for n, p in trained["unet"].named_parameters() if n.endswith("im3_alpha"))


def test_the_page_tells_what_is_within_the_spread_of_two_seeds():
    figures = {"psnr": 12.0, "mse": 1.0, "ssim": 0.3, "gradient_energy": 1, "adjacent_ssim": 0.8}
    rows = [
        {"variant": name, "tables": tables, "loss": loss, "adjacent_ssim_truth": 0.7} | figures
        for name, tables, loss in (
            ("whole", [4, 5, 7], 0.2),
            ("whole, another seed", [4, 5, 7], 0.21),
            ("no IM3", [4], 0.195),
            ("no RefNet", [5], 0.3),
        )
    ]
    settings = {"model": "m", "training_steps": 8, "size": 64, "steps": 10}
    page = ablations_page({"settings": settings, "rows": rows}, "python -m benchmarks ablations")
    assert "| no IM3 | 0.1950 | -0.0050 (within the spread) |" in page
    assert "| no RefNet | 0.3000 | +0.1000 |" in page
    assert page.count("| whole | 0.2000 |") == 3
