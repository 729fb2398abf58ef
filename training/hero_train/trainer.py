"""Trains HERO: accelerate for devices and precision, AdamW, a moving average, a log, and states to resume from."""

import json
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from hero_rt.models.hero import HeroModel
from hero_rt.sampling import make_scheduler
from hero_rt.spec.config import LATENT_CHANNELS, VAE_SCALE, HeroConfig
from hero_train.examples import TrainingExamples
from hero_train.minimise import Run, check_finite
from hero_train.objective import HeroObjective
from hero_train.recipe import Recipe

CORNERS = 2  # values a side of the grid that an offset is interpolated from


def train(model: HeroModel, recipe: Recipe, out: Path) -> None:
    """Train the UNet, RefNet, flow encoder and image projection of `model`. Resume from out/state, if it exists.

    Writes out/log.jsonl (a line a step), out/state (to resume from) and out/model (the moving average, as a
    checkpoint). On a CPU a killed and resumed run ends with the same bits as an uninterrupted one.
    """
    model.config = replace(model.config, sample_size=recipe.size)
    accelerator = Accelerator(mixed_precision=recipe.mixed_precision, cpu=model.device.type == "cpu")
    objective = HeroObjective(model, make_scheduler(model.config.scheduler), recipe.known_weight)
    objective.hold_at_zero(recipe.hold_at_zero)
    for part in (objective, *objective.frozen.values()):
        part.to(memory_format=torch.channels_last)  # saves a fifth of a step on a CPU; cuDNN prefers it
    learned = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, recipe.learning_rate, weight_decay=recipe.weight_decay)
    run = Run(recipe, out / "state", (objective, optimizer))
    if recipe.compile:
        for part in (objective.unet, objective.refnet, objective.flow_encoder):
            part.compile()
    wrapped, optimizer = accelerator.prepare(objective, optimizer)

    main, rank, processes = accelerator.is_main_process, accelerator.process_index, accelerator.num_processes
    stride = recipe.windows_per_step * processes
    examples = TrainingExamples(model.config, list(recipe.videos), recipe.size, recipe.seed, recipe.steps * stride)
    indices = range(run.start * stride + rank, recipe.steps * stride, processes)
    windows = iter(DataLoader(examples, batch_size=None, sampler=indices, num_workers=recipe.workers))
    log = out / "log.jsonl"
    if main:
        _cut(log, run.start)

    def save_average() -> None:
        run.swap()
        model.save_pretrained(out / "model")
        run.swap()

    skipped = 0
    for step in run.steps(save_more=save_average, main=main):
        began = time.perf_counter()
        losses = []
        for micro in range(recipe.windows_per_step):
            example = {name: tensor.to(accelerator.device) for name, tensor in next(windows).items()}
            skipped += int(example.pop("skipped"))
            generator = recipe.generator(step, micro + recipe.windows_per_step * rank)
            noise, timesteps, drop = _draw(recipe, model.config, generator)
            loss = wrapped(example, noise.to(accelerator.device), timesteps.to(accelerator.device), drop)
            check_finite(loss, step)
            accelerator.backward(loss / recipe.windows_per_step)
            losses.append(loss.detach())
        norm = accelerator.clip_grad_norm_(wrapped.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if main:
            line = {"step": step, "loss": float(torch.stack(losses).mean()), "grad_norm": float(norm)}
            line |= {"skipped": skipped, "seconds": round(time.perf_counter() - began, 3)}
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")


def _draw(recipe: Recipe, config: HeroConfig, generator: torch.Generator) -> tuple[Tensor, Tensor, bool]:
    """Draw noise, timesteps, and whether the CLIP references of a window are dropped."""
    count, size, steps = recipe.timesteps_per_window, recipe.size // VAE_SCALE, config.scheduler["num_train_timesteps"]
    noise = training_noise((count, config.num_frames, LATENT_CHANNELS, size, size), recipe.noise_offset, generator)
    # stratified, so every step has early and late timesteps
    uniform = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    timesteps = (uniform * steps).long().clamp(max=steps - 1)
    return noise, timesteps, bool(torch.rand((), generator=generator) < recipe.semantic_dropout)


def _cut(log: Path, start: int) -> None:
    """Remove the lines that a resumed run will write again."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    log.write_text("".join(line for line in lines if json.loads(line)["step"] < start))


def training_noise(shape: tuple[int, int, int, int, int], offset: float, generator: torch.Generator) -> Tensor:
    """Draw Gaussian noise [T, F, C, h, w] plus a smooth field of up to `offset` deviation, equal in all frames.

    White noise has almost no mean over a region and all frames, so a model learns to trust the mean of its input. At
    inference that mean holds errors of earlier steps, so a wrong colour grows (exposure bias). Noise with such a mean
    teaches the model to use the known pixels. It is diffusers' `--noise_offset` (Guttenberg 2023), but varies over the
    frame.
    """
    noise = torch.randn(shape, generator=generator)
    if offset:
        count, _, channels, *size = shape
        corners = torch.randn(count, channels, CORNERS, CORNERS, generator=generator)
        field = F.interpolate(corners, size, mode="bilinear", align_corners=True)
        noise += offset * field[:, None]
    return noise
