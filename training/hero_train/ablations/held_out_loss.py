"""Eq. 1 on clips that no one trained on: a figure of the denoiser alone, with no sampler's luck in it."""

import numpy as np
import torch

from hero_rt.models.hero import HeroModel
from hero_rt.sampling import make_scheduler
from hero_rt.spec.canvas import Canvas
from hero_rt.spec.config import LATENT_CHANNELS
from hero_train.examples import training_example
from hero_train.objective import HeroObjective
from hero_train.tasks import Task

TIMESTEPS = 10  # in the middle of as many equal parts of the schedule


@torch.no_grad()
def held_out_loss(model: HeroModel, clips: list[tuple[np.ndarray, Canvas]], seed: int) -> float:
    """The mean loss of the hidden latent cells over `clips`, each uint8 [F, H, W, 3] with what its canvas hides.

    The noise depends on the seed and the clip's place alone, so that two models of one schedule meet the same.
    """
    objective = HeroObjective(model, make_scheduler(model.config.scheduler), known_weight=0).eval()
    steps = model.config.scheduler["num_train_timesteps"]
    timesteps = (torch.arange(TIMESTEPS) * 2 + 1) * steps // (2 * TIMESTEPS)
    losses = []
    for place, (truth, canvas) in enumerate(clips):
        example = training_example(
            truth, Task(canvas, known_frames=0), model.config.canvas_fill, model.config.flow_scale
        )
        generator = torch.Generator().manual_seed(seed + place)
        frames, _, height, width = example["mask"].shape
        noise = torch.randn(TIMESTEPS, frames, LATENT_CHANNELS, height, width, generator=generator)
        losses.append(objective(example, noise, timesteps, False))
    return float(torch.stack(losses).mean())
