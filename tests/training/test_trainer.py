"""The loop: a killed run ends with the same bits, the average is one, and the loss falls."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hero_rt.errors import UsageError
from hero_rt.models import HeroModel
from hero_rt.sampling import make_scheduler
from hero_train.cli import main
from hero_train.examples import TrainingExamples
from hero_train.objective import HeroObjective
from hero_train.recipe import Recipe
from hero_train.trainer import train
from tests.test_commands import run
from tests.training.conftest import FRAMES, SIZE


def recipe(videos: Path, **changed) -> Recipe:
    settings = {"videos": [videos], "steps": 4, "size": SIZE, "windows_per_step": 1, "save_every": 2}
    settings["ema_decay"] = 0.5
    return Recipe.model_validate(settings | changed)


def arguments(checkpoint: Path, videos: Path, out: Path, steps: int) -> list[str]:
    options = {
        "--videos": videos,
        "--out": out,
        "--steps": steps,
        "--size": SIZE,
        "--save-every": 1,
        "--windows-per-step": 1,
    }
    flat = [str(part) for option in options.items() for part in option]
    return ["outpainter", str(checkpoint), *flat, "--timesteps-per-window", "2", "--device", "cpu"]


def log(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def state(out: Path) -> dict[str, torch.Tensor]:
    (folder,) = (out / "state").iterdir()
    return load_file(folder / "state.safetensors")


def test_a_run_killed_and_resumed_ends_with_the_same_bits(checkpoint, videos, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "hero_train.cli", *arguments(checkpoint, videos, killed, steps=5)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((killed / "state").glob("step-0000002")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    other = [*command[:3], *arguments(checkpoint, videos, whole, steps=5)]
    subprocess.run(other, env=environment, check=True, stderr=subprocess.DEVNULL)

    ours, truth = state(killed), state(whole)
    assert ours.keys() == truth.keys()
    assert len([name for name in ours if name.startswith("optimizer/exp_avg_sq/")]) > 1000
    assert all(torch.equal(ours[name], truth[name]) for name in truth)
    keys = ("step", "loss", "grad_norm")
    assert [[line[k] for k in keys] for line in log(killed)] == [[line[k] for k in keys] for line in log(whole)]
    assert [line["step"] for line in log(killed)] == [0, 1, 2, 3, 4]


def test_the_checkpoint_is_the_moving_average_and_runs(checkpoint, videos, tmp_path):
    """decay 0.5, three steps: average = w0/8 + w1/8 + w2/4 + w3/2, but a young average forgets its start faster."""
    weights = []
    for steps in (1, 2, 3):
        train(HeroModel.from_pretrained(checkpoint), recipe(videos, steps=steps), tmp_path / str(steps))
        weights.append(state(tmp_path / str(steps)))
    name = "unet.conv_in.weight"
    average = HeroModel.from_pretrained(checkpoint)["unet"].conv_in.weight.double()
    for step, tensors in enumerate(weights):
        decay = min(0.5, (step + 1) / (step + 10))
        average = decay * average + (1 - decay) * tensors[f"model/{name}"].double()
    written = HeroModel.from_pretrained(tmp_path / "3" / "model")
    torch.testing.assert_close(written["unet"].conv_in.weight.double(), average, rtol=0, atol=1e-7)
    assert written.config.canvas_fill == "propagated"
    assert (written.config.flow_scale, written.config.sample_size) == (3.0, SIZE)
    for part in ("vae", "image_encoder", "image_encoder_2"):
        frozen = HeroModel.from_pretrained(checkpoint)[part].state_dict()
        assert all(torch.equal(tensor, frozen[key]) for key, tensor in written[part].state_dict().items())


def test_training_lowers_the_loss_of_fixed_windows_and_noise(small, videos, tmp_path):
    examples = TrainingExamples(small.config, [videos], SIZE, seed=77, length=6)
    held = [examples[i] for i in range(6)]
    for example in held:
        del example["skipped"]

    @torch.no_grad()
    def loss(model: HeroModel) -> float:
        objective = HeroObjective(model, make_scheduler(model.config.scheduler), known_weight=1)
        noise = torch.randn(2, FRAMES, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        return sum(float(objective(example, noise, torch.tensor([300, 900]), False)) for example in held)

    start = HeroModel.initial(small.config, seed=0)
    before = loss(start)
    settings = recipe(videos, steps=20, learning_rate=2e-3, timesteps_per_window=2, save_every=20)
    train(HeroModel.initial(small.config, seed=0), settings, tmp_path)
    assert loss(HeroModel.from_pretrained(tmp_path / "model")) < 0.8 * before


def test_the_defaults_are_the_papers(videos):
    """Section 3.1: a rate of 1e-4, constant from the first step, and gradients of 16 batches."""
    settings = Recipe(videos=(videos,), steps=1000)
    assert {settings.learning_rate_at(step) for step in range(1000)} == {1e-4}
    assert settings.windows_per_step == 16


def test_learning_rate_rises_holds_and_falls(videos):
    settings = recipe(videos, steps=100, warmup_steps=9, decay_steps=19, learning_rate=1.0)
    rates = [settings.learning_rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert set(rates[10:80]) == {1.0}
    assert rates[81:] == pytest.approx([(100 - step) / 20 for step in range(81, 100)])


def test_resuming_with_another_recipe_is_refused(checkpoint, videos, tmp_path):
    train(HeroModel.from_pretrained(checkpoint), recipe(videos, steps=1), tmp_path)
    train(HeroModel.from_pretrained(checkpoint), recipe(videos, steps=2), tmp_path)
    assert len(log(tmp_path)) == 2
    with pytest.raises(UsageError, match=r"trained otherwise \(learning_rate was 0\.0001, is 0\.5\)"):
        train(HeroModel.from_pretrained(checkpoint), recipe(videos, steps=3, learning_rate=0.5), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_with_the_last_state_kept(checkpoint, videos, tmp_path):
    train(HeroModel.from_pretrained(checkpoint), recipe(videos, steps=2), tmp_path)
    before = state(tmp_path)
    broken = HeroModel.from_pretrained(checkpoint)
    broken["vae"].register_to_config(scaling_factor=math.inf)
    with pytest.raises(UsageError, match=r"the loss is .* at step 2; resume with a lower --learning-rate"):
        train(broken, recipe(videos, steps=3), tmp_path)
    after = state(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--size", "100"], "--size is 100: Input should be a multiple of 8", id="size"),
        pytest.param(["--steps", "0"], "--steps is 0: Input should be greater than or equal to 1", id="steps"),
        pytest.param(["--mixed-precision", "int8"], "'int8' is not one of", id="precision"),
    ],
)
def test_bad_options_are_one_line(checkpoint, videos, tmp_path, capfd, options, message):
    command = ["outpainter", str(checkpoint), "--videos", str(videos), "--out", str(tmp_path / "run")]
    assert run(main, *command, "--steps", "1", *options) == 2
    error = capfd.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
