"""Trains and measures the paper's ablations at a small scale. Every variant has the same start and steps.

A variant holds some parameters at zero while it trains, so they contribute nothing in training and at inference. RefNet
features of zero still give keys and values of zero beside those of the UNet. They take a constant share of each
softmax, and the UNet learns with that.
"""

import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch

from hero_rt.atomic import write_atomically
from hero_rt.engines.eager import EagerEngines
from hero_rt.models.hero import HeroModel
from hero_rt.outpainter import Outpainter
from hero_rt.sampling import make_scheduler
from hero_rt.spec.canvas import Canvas
from hero_rt.spec.config import LATENT_CHANNELS
from hero_train.evaluation.evaluate import evaluate, evaluation_canvas, evaluation_clips
from hero_train.evaluation.targets import MODEL
from hero_train.examples import Task, training_example
from hero_train.objective import HeroObjective
from hero_train.recipe import Recipe
from hero_train.trainer import train

RECIPE = {"timesteps_per_window": 2, "known_weight": 0.25, "ema_decay": 0.99, "save_every": 100}  # of every variant
RATIOS = [0.25, 0.5]
TIMESTEPS = 10  # each in the middle of one of as many equal parts of the schedule
FIGURES = ("psnr", "mse", "ssim", "gradient_energy", "adjacent_ssim", "adjacent_ssim_truth")


class Variant(NamedTuple):
    """A row of the paper's `tables`. Another seed shows how far two trainings of one model differ."""

    name: str
    tables: tuple[int, ...]
    hold_at_zero: tuple[str, ...] = ()
    ofe_timestep: str = "zero"
    seed: int = 0


_NO_FLOW = "flow_encoder.controlnet_*_block*"
_NO_REFNET = "refnet.*attentions.*.transformer_blocks.0.norm1.*"
VARIANTS = (
    Variant("whole", (4, 5, 7)),
    Variant("whole, another seed", (4, 5, 7), seed=1),
    Variant("no IM3", (4,), ("*.im3_alpha",)),
    Variant("no IM3 in the RefNet", (4,), ("refnet.*.im3_alpha",)),
    Variant("no flow encoder, no RefNet", (5,), (_NO_FLOW, _NO_REFNET)),
    Variant("no flow encoder", (5,), (_NO_FLOW,)),
    Variant("flow encoder with t", (5,), ofe_timestep="synced"),
    Variant("no RefNet", (5,), (_NO_REFNET,)),
    Variant("CLIP alone", (7,), ("*.attn2.to_v_ip.*",)),
    Variant("OpenCLIP alone", (7,), ("*.attn2.to_v.weight",)),
)


class AblationRun(NamedTuple):
    """The settings of all variants. start: a checkpoint; videos: held out; steps: of DDIM; out: folder of the runs."""

    start: Path
    recipe: Recipe
    videos: tuple[Path, ...]
    steps: int
    out: Path

    def row(self, variant: Variant, threads: int) -> dict[str, Any]:
        """Train one variant in out/<name>, or resume it. Measure it, and keep the figures there."""
        torch.set_num_threads(threads)
        folder = self.out / variant.name.replace(",", "").replace(" ", "-")
        measured = folder / "figures.json"
        if measured.is_file():
            return json.loads(measured.read_text())
        model = HeroModel.from_pretrained(self.start)
        model.set_ofe_timestep(variant.ofe_timestep)
        changed = {"hold_at_zero": variant.hold_at_zero, "seed": variant.seed}
        train(model, self.recipe.model_copy(update=changed), folder)
        trained, videos = HeroModel.from_pretrained(folder / "model"), list(self.videos)
        outpainter, size, seed = Outpainter(EagerEngines(trained)), self.recipe.size, self.recipe.seed
        results = evaluate(outpainter, videos, RATIOS, self.steps, size, [seed], lambda _: None)
        own = [row for row in results["rows"] if row["method"] == MODEL]
        clips = evaluation_clips(videos, trained.config.num_frames, size).values()
        hidden = [(truth, evaluation_canvas(size, ratio)) for _, truth in clips for ratio in RATIOS]
        figures = {name: round(fmean(row[name] for row in own), 4) for name in FIGURES}
        loss = round(held_out_loss(trained, hidden, seed), 5)
        row = {"variant": variant.name, "tables": variant.tables, "loss": loss} | figures
        write_atomically(measured, json.dumps(row).encode())
        return row


def run_variants(run: AblationRun, jobs: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a row per variant with the means of its figures. `jobs` variants train at once, on shared cores."""
    threads, rows = max(1, (os.cpu_count() or 1) // jobs), []
    # spawned, because a forked process inherits locks whose threads do not exist in it
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(run.row, VARIANTS, repeat(threads)):
            rows.append(row)
            progress(f"{row['variant']}: loss {row['loss']:.4f}, {row['psnr']:.2f} dB")
    return rows


@torch.no_grad()
def held_out_loss(model: HeroModel, clips: list[tuple[np.ndarray, Canvas]], seed: int) -> float:
    """Return the mean loss over hidden latent cells. clips: uint8 [F, H, W, 3] each, with its hidden part.

    The noise depends only on the seed and the clip's index, so two models of one schedule see the same noise.
    """
    objective = HeroObjective(model, make_scheduler(model.config.scheduler), known_weight=0).eval()
    steps = model.config.scheduler["num_train_timesteps"]
    timesteps = (torch.arange(TIMESTEPS) * 2 + 1) * steps // (2 * TIMESTEPS)
    losses = []
    for place, (truth, canvas) in enumerate(clips):
        example = training_example(truth, Task(canvas, known_frames=0), model.config)
        generator = torch.Generator().manual_seed(seed + place)
        frames, _, height, width = example["mask"].shape
        noise = torch.randn(TIMESTEPS, frames, LATENT_CHANNELS, height, width, generator=generator)
        losses.append(objective(example, noise, timesteps, False))
    return float(torch.stack(losses).mean())
