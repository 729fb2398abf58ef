"""The loss: the model is trained on exactly what inference will give it."""

from dataclasses import replace

import pytest
import torch

from hero_rt.errors import UsageError
from hero_rt.models import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.sampling import make_scheduler
from hero_rt.spec.boundary import submodule_io
from hero_rt.spec.profile import Profile
from hero_train.examples import TrainingExamples
from hero_train.objective import HeroObjective
from tests.training.conftest import FRAMES, SIZE


@pytest.fixture(scope="module")
def example(small, videos) -> dict[str, torch.Tensor]:
    """A window of the real video, some of it hidden."""
    examples = TrainingExamples(small.config, [videos], SIZE, seed=3, length=50)
    return next(e for e in (examples[i] for i in range(50)) if e["target"].std() > 0.1 and 0 < e["mask"].mean() < 1)


@torch.no_grad()
def inference(model: HeroModel, example: dict[str, torch.Tensor], sample, timestep, guided: bool) -> torch.Tensor:
    """noise_pred by the exported submodules, one after the other, as the runtime runs them."""
    profile = Profile(SIZE, SIZE, FRAMES, guided)
    tensors = dict(example) | {"sample": sample, "timestep": timestep.float().reshape(1)}
    for name in ("vae_encoder", "semantic", "refnet", "flow_encoder", "unet_step"):
        inputs, outputs = submodule_io(name, model.config, profile, torch.float32)
        results = build_submodule(model, name, profile)(*(tensors[key] for key in inputs))
        tensors |= dict(zip(outputs, results if isinstance(results, tuple) else (results,), strict=True))
        if name == "vae_encoder":
            tensors["condition"] = torch.cat([example["mask"], tensors["latents"]], dim=1)
    return tensors["noise_pred"]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("ofe_timestep", ["zero", "synced"])
def test_loss_is_equation_1_on_what_inference_predicts(small, example, prediction_type, ofe_timestep):
    config = replace(
        small.config,
        ofe_timestep=ofe_timestep,
        scheduler=small.config.scheduler | {"prediction_type": prediction_type},
    )
    model = HeroModel.random(config)
    scheduler = make_scheduler(config.scheduler)
    noise, t = torch.randn(1, FRAMES, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor(400)
    profile = Profile(SIZE, SIZE, FRAMES)
    with torch.no_grad():
        clean = build_submodule(model, "vae_encoder", profile)(example["target"]).double()
        loss = HeroObjective(model, scheduler, known_weight=1)(example, noise, t[None], False)
    alpha = scheduler.alphas_cumprod[400].double()
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise[0]
    truth = noise[0].double() if prediction_type == "epsilon" else alpha.sqrt() * noise[0] - (1 - alpha).sqrt() * clean
    predicted = inference(HeroModel.random(config), example, noisy.float(), t, guided=False)
    assert float(loss) == pytest.approx(float((predicted.double() - truth).square().mean()), rel=1e-5)


def test_dropped_semantics_are_the_null_row_of_guidance(small, example):
    model = HeroModel.random(small.config)
    scheduler = make_scheduler(model.config.scheduler)
    noise, t = torch.randn(1, FRAMES, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([700])
    with torch.no_grad():
        objective = HeroObjective(model, scheduler, known_weight=1)
        losses = [float(objective(example, noise, t, drop)) for drop in (True, False)]
        clean = build_submodule(model, "vae_encoder", Profile(SIZE, SIZE, FRAMES))(example["target"])
    noisy = scheduler.add_noise(clean, noise[0], t.expand(FRAMES))
    target = scheduler.get_velocity(clean, noise[0], t.expand(FRAMES))
    rows = inference(HeroModel.random(small.config), example, noisy, t, guided=True).chunk(2)
    truth = [float((row - target).square().mean()) for row in rows]
    assert losses == pytest.approx(truth, rel=1e-5)
    assert abs(truth[0] - truth[1]) / truth[0] > 1e-4


def test_known_weight_counts_the_hidden_cells_alone_at_zero(small, example):
    model = HeroModel.random(small.config)
    scheduler = make_scheduler(model.config.scheduler)
    noise, t = torch.randn(1, FRAMES, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([300])
    with torch.no_grad():
        loss = float(HeroObjective(model, scheduler, known_weight=0)(example, noise, t, False))
        clean = build_submodule(model, "vae_encoder", Profile(SIZE, SIZE, FRAMES))(example["target"])
    noisy = scheduler.add_noise(clean, noise[0], t.expand(FRAMES))
    target = scheduler.get_velocity(clean, noise[0], t.expand(FRAMES))
    predicted = inference(HeroModel.random(small.config), example, noisy, t, guided=False)
    hidden = example["mask"].bool().expand_as(target)
    assert loss == pytest.approx(float((predicted - target)[hidden].square().mean()), rel=1e-5)


def test_several_timesteps_are_the_mean_of_each_alone_and_every_trained_part_learns(small, example):
    model = HeroModel.random(small.config)
    objective = HeroObjective(model, make_scheduler(model.config.scheduler), known_weight=1)
    noise = torch.randn(3, FRAMES, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([10, 500, 990])
    with torch.no_grad():
        alone = [float(objective(example, noise[i : i + 1], t[i : i + 1], False)) for i in range(3)]
    loss = objective(example, noise, t, False)
    assert float(loss.detach()) == pytest.approx(sum(alone) / 3, rel=1e-5)
    loss.backward()
    missing = [name for name, p in objective.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing
    assert all(p.grad is None for part in ("vae", "image_encoder") for p in model[part].parameters())


@pytest.mark.parametrize(
    ("patterns", "part", "name"),
    [
        pytest.param(["refnet.*attentions.*.transformer_blocks.0.norm1.*"], "refnet", "conv_in.weight", id="no-refnet"),
        pytest.param(
            ["flow_encoder.controlnet_*_block*"],
            "flow_encoder",
            "controlnet_cond_embedding.conv_out.bias",
            id="no-flow",
        ),
        pytest.param(["*.attn2.to_v_ip.*"], "image_projection", "image_embeds.weight", id="clip-alone"),
    ],
)
def test_what_is_held_at_zero_contributes_nothing_and_learns_nothing(small, example, patterns, part, name):
    """Another weight upstream of what is held changes the loss before, and not after."""
    model = HeroModel.random(small.config)
    objective = HeroObjective(model, make_scheduler(model.config.scheduler), known_weight=1)
    noise, t = torch.randn(1, FRAMES, 4, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([300])

    def change() -> float:
        with torch.no_grad():
            before = float(objective(example, noise, t, False))
            model[part].state_dict()[name].mul_(3)
            after = float(objective(example, noise, t, False))
            model[part].state_dict()[name].div_(3)
        return abs(after - before) / before

    assert change() > 1e-5
    objective.hold_at_zero(patterns)
    assert change() < 1e-6
    objective(example, noise, t, False).backward()
    held = [parameter for parameter in objective.parameters() if not parameter.requires_grad]
    assert held
    assert all(parameter.grad is None and not parameter.any() for parameter in held)


def test_a_pattern_that_fits_nothing_is_refused(small):
    model = HeroModel.random(small.config)
    objective = HeroObjective(model, make_scheduler(model.config.scheduler), known_weight=1)
    with pytest.raises(UsageError, match=r"'refnet\.alpha' fits no parameter"):
        objective.hold_at_zero(["refnet.alpha"])
