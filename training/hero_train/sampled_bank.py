"""What the model's own sampler makes of hidden sides, held in memory: latents that no encoder made."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import UsageError
from hero_rt.models.hero import HeroModel
from hero_rt.outpainter import Outpainter
from hero_rt.request import OutpaintRequest, Padding
from hero_rt.spec.config import VAE_SCALE
from hero_rt.stages.place import latent_mask
from hero_train.frame_bank import to_tensor
from hero_train.tasks import random_task
from hero_train.videos import VideoWindows

HIDDEN = 0.6  # of a crop's cells, at least


class SampledBank:
    """`count` windows of `size` x `size` px, sides of them hidden and sampled again in `sampling_steps` DDIM steps.

    frames: uint8 [count, F, size, size, 3], what was there; latents: float32 [count, F, 4, size/8, size/8], what was
    sampled, in the VAE's own scale; hidden: bool [count, size/8, size/8]. All of it depends on the weights and the
    seed alone.
    """

    def __init__(
        self, model: HeroModel, folders: list[Path], count: int, size: int, seed: int, sampling_steps: int = 10
    ):
        if size % VAE_SCALE:
            raise UsageError(f"windows of {size} px a side are no whole latent cells; take a multiple of {VAE_SCALE}")
        windows = VideoWindows(folders, model.config.num_frames, size, seed, count)
        outpainter = Outpainter(EagerEngines(model))
        outpainter.set_progress_bar_config(disable=True)
        self.seed = seed
        self.frames = np.empty((count, model.config.num_frames, size, size, 3), np.uint8)
        latents, hidden = [], []
        for index in tqdm(range(count), desc="sampled windows"):
            rng = np.random.default_rng((seed, index, 3))
            colours = rng.permutation(3) if index % 2 else np.arange(3)
            self.frames[index] = windows[index][0][..., colours]
            canvas = random_task(size, size, rng).canvas
            source = np.ascontiguousarray(canvas.source_of(self.frames[index]))
            request = OutpaintRequest(frame=Padding.around(canvas), steps=sampling_steps, seed=index)
            result = outpainter(source, request, output_type="latent")
            latents.append(result.frames.cpu())
            hidden.append(latent_mask(canvas)[0].bool())
        self.latents = torch.stack(latents) / model.config.vae["scaling_factor"]
        self.hidden = torch.stack(hidden)

    def crops(self, step: int, count: int, size: int) -> tuple[Tensor, Tensor]:
        """`count` squares of `size` px of two successive frames, mostly hidden, as they were and as sampled latents.

        Returns [2·count, 3, size, size] in [-1, 1] and [2·count, 4, size/8, size/8]; the same for the same step.
        Raises UsageError where no square of that size is hidden enough.
        """
        cells = size // VAE_SCALE
        share = torch.nn.functional.avg_pool2d(self.hidden[:, None].float(), cells, 1)[:, 0]
        places = (share >= HIDDEN).nonzero().tolist()
        if not places:
            raise UsageError(f"no square of {size} px is hidden in any of {len(self.hidden)} windows; take more")
        rng = np.random.default_rng((self.seed, step, 4))
        frames, latents = [], []
        for _ in range(count):
            window, top, left = places[rng.integers(len(places))]
            first = rng.integers(self.frames.shape[1] - 1)
            y, x = top * VAE_SCALE, left * VAE_SCALE
            frames.append(self.frames[window, first : first + 2, y : y + size, x : x + size])
            latents.append(self.latents[window, first : first + 2, :, top : top + cells, left : left + cells])
        return to_tensor(np.concatenate(frames)), torch.cat(latents)
