"""The training loop: accelerate for devices and precision, AdamW, a moving average, a log, states to resume from."""

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from hero_rt.errors import UsageError
from hero_rt.models.hero import HeroModel
from hero_rt.sampling import make_scheduler
from hero_rt.spec.config import LATENT_CHANNELS, VAE_SCALE
from hero_train.examples import TrainingExamples
from hero_train.noise import training_noise
from hero_train.objective import HeroObjective
from hero_train.recipe import Recipe
from hero_train.state import load_state, save_state


def train(model: HeroModel, recipe: Recipe, out: Path) -> None:
    """Train `model`'s UNet, RefNet, flow encoder and image projection; go on from out/state where there is one.

    Writes out/log.jsonl (a line a step), out/state (to resume from) and out/model (the moving average, as a
    checkpoint). On a CPU a run that was killed and resumed ends with the same bits as one that was not.
    """
    model.config = replace(model.config, sample_size=recipe.size)
    accelerator = Accelerator(mixed_precision=recipe.mixed_precision, cpu=model.device.type == "cpu")
    objective = HeroObjective(model, make_scheduler(model.config.scheduler), recipe.known_weight)
    objective.hold_at_zero(recipe.hold_at_zero)
    for part in (objective, *objective.frozen.values()):
        part.to(memory_format=torch.channels_last)  # a fifth of a step on a CPU, and what cuDNN wants in half precision
    learned = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, recipe.learning_rate, weight_decay=recipe.weight_decay)
    average = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    start = load_state(out / "state", recipe, objective, average, optimizer)
    if recipe.compile:
        for part in (objective.unet, objective.refnet, objective.flow_encoder):
            part.compile()
    wrapped, optimizer = accelerator.prepare(objective, optimizer)

    stride = recipe.windows_per_step * accelerator.num_processes
    examples = TrainingExamples(model.config, list(recipe.videos), recipe.size, recipe.seed, recipe.steps * stride)
    indices = range(start * stride + accelerator.process_index, recipe.steps * stride, accelerator.num_processes)
    loader = DataLoader(examples, batch_size=None, sampler=indices, num_workers=recipe.workers)
    windows = iter(loader)

    log = _Log(out / "log.jsonl", start) if accelerator.is_main_process else None
    skipped = 0
    for step in tqdm(range(start, recipe.steps), initial=start, total=recipe.steps, disable=log is None):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        losses = []
        for micro in range(recipe.windows_per_step):
            example = {name: tensor.to(accelerator.device) for name, tensor in next(windows).items()}
            skipped += int(example.pop("skipped"))
            draw = _Draw(model, recipe, step, micro + recipe.windows_per_step * accelerator.process_index)
            loss = wrapped(example, *draw(len(example["target"]), accelerator.device))
            if not loss.isfinite():
                raise UsageError(f"the loss is {loss.item()} at step {step}; resume with a lower --learning-rate")
            accelerator.backward(loss / recipe.windows_per_step)
            losses.append(loss.detach())
        norm = accelerator.clip_grad_norm_(wrapped.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _update_average(average, objective.named_parameters(), min(recipe.ema_decay, (step + 1) / (step + 10)))
        if log is not None:
            log.write(step, float(torch.stack(losses).mean()), float(norm), skipped, time.perf_counter() - began)
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                save_state(out / "state", step + 1, recipe, objective, average, optimizer.optimizer)
                save_average(model, objective, average, out / "model")


def save_average(model: HeroModel, objective: nn.Module, average: dict[str, Tensor], folder: Path) -> None:
    """The checkpoint with the moving average in place of the weights, which stay as they are."""
    trained = dict(objective.named_parameters())
    current = {name: parameter.detach().clone() for name, parameter in trained.items()}
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(average[name])
        model.save_pretrained(folder)
        for name, parameter in trained.items():
            parameter.copy_(current[name])


class _Draw:
    """The random part of one window's loss; a function of seed, step and window, so that a resumed run repeats it."""

    def __init__(self, model: HeroModel, recipe: Recipe, step: int, window: int):
        self.generator = torch.Generator().manual_seed(hash((recipe.seed, step, window)) % 2**63)
        self.recipe, self.steps = recipe, model.config.scheduler["num_train_timesteps"]

    def __call__(self, num_frames: int, device: torch.device) -> tuple[Tensor, Tensor, bool]:
        count, size = self.recipe.timesteps_per_window, self.recipe.size // VAE_SCALE
        shape = (count, num_frames, LATENT_CHANNELS, size, size)
        noise = training_noise(shape, self.recipe.noise_offset, self.generator)
        # stratified: every step sees early and late timesteps
        uniform = (torch.arange(count) + torch.rand(count, generator=self.generator)) / count
        timesteps = (uniform * self.steps).long().clamp(max=self.steps - 1)
        drop = torch.rand((), generator=self.generator) < self.recipe.semantic_dropout
        return noise.to(device), timesteps.to(device), bool(drop)


def _update_average(average: dict[str, Tensor], parameters: Iterable[tuple[str, Tensor]], decay: float) -> None:
    with torch.no_grad():
        for name, parameter in parameters:
            average[name].lerp_(parameter, 1 - decay)


class _Log:
    """JSON lines, one a step; a resumed run takes out the lines that it will write again."""

    def __init__(self, path: Path, start: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] < start]
        path.write_text("".join(f"{line}\n" for line in kept))
        self.path = path

    def write(self, step: int, loss: float, grad_norm: float, skipped: int, seconds: float) -> None:
        line = {"step": step, "loss": loss, "grad_norm": grad_norm, "skipped": skipped, "seconds": round(seconds, 3)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
