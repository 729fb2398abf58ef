"""Keeps training frames, and latents that the sampler made from them, in memory."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hero_rt.atomic import atomic_path
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import UsageError
from hero_rt.models.hero import HeroModel
from hero_rt.outpainter import Outpainter
from hero_rt.pixels import to_signed
from hero_rt.request import OutpaintRequest, Padding
from hero_rt.spec.config import VAE_SCALE
from hero_rt.stages.place import latent_mask
from hero_train.examples import random_task
from hero_train.recipe import CropRecipe
from hero_train.videos import VideoWindows

HIDDEN = 0.6  # smallest hidden share of a crop's cells


class FrameBank:
    """`count` pairs of successive frames of `size` x `size` px from folders of videos, uint8 [count, 2, size, size, 3].

    The frames depend only on the seed. A batch of crops depends on the seed and the step.
    """

    @classmethod
    def of(cls, recipe: CropRecipe, folders: list[Path], out: Path) -> "FrameBank":
        return cls(folders, recipe.pairs, recipe.size, recipe.seed, out / "state" / "frames.npy")

    def __init__(self, folders: list[Path], count: int, size: int, seed: int, kept: Path | None = None):
        """Read the frames. kept: .npy file for them. A resumed run reads it."""
        if kept is not None and kept.exists():
            self.pairs = np.load(kept)
        else:
            windows = VideoWindows(folders, 2, size, seed, count)
            self.pairs = np.stack([windows[index][0] for index in tqdm(range(count), desc="frames")])
            if kept is not None:
                with atomic_path(kept) as path:
                    np.save(path, self.pairs)
        if self.pairs.shape != (count, 2, size, size, 3):
            raise UsageError(f"{kept} holds {self.pairs.shape[0]} pairs of {self.pairs.shape[2]} px; remove it")
        self.seed = seed

    def crops(self, step: int, count: int, size: int, frames: int = 1) -> Tensor:
        """Return `count` random squares of `size` px of one or two successive frames, [count * frames, 3, size, size].

        Values are in [-1, 1]. Half are mirrored. Every second one has its colour channels shuffled, because
        photographs are mostly blue, green and brown: without it a red car was decoded as yellow.
        """
        rng = np.random.default_rng((self.seed, step, 2))
        found = []
        for index in range(count):
            top, left = rng.integers(0, self.pairs.shape[2] - size + 1, 2)
            crop = self.pairs[rng.integers(len(self.pairs)), :frames, top : top + size, left : left + size]
            crop = crop[:, :, ::-1] if rng.random() < 0.5 else crop
            found.append(crop[..., rng.permutation(3)] if index % 2 else crop)
        return to_tensor(np.concatenate(found))

    def wholes(self, count: int) -> Tensor:
        """Return the whole first frames of `count` pairs, [count, 3, size, size] in [-1, 1]."""
        return to_tensor(self.pairs[:count, 0])


def to_tensor(frames: np.ndarray) -> Tensor:
    """Convert uint8 [N, H, W, 3] to float [N, 3, H, W] in [-1, 1]."""
    return to_signed(frames).contiguous(memory_format=torch.channels_last)  # saves a third of a step on a CPU


class SampledBank:
    """Samples the hidden sides of `count` windows of `size` x `size` px in `sampling_steps` DDIM steps.

    frames: the truth, uint8 [count, F, size, size, 3]. latents: the samples in the VAE's own scale, float32
    [count, F, 4, size/8, size/8]. hidden: bool [count, size/8, size/8]. They depend only on the weights and the seed.
    """

    def __init__(
        self, model: HeroModel, folders: list[Path], count: int, size: int, seed: int, sampling_steps: int = 10
    ):
        if size % VAE_SCALE:
            raise UsageError(f"windows of {size} px a side: use a multiple of {VAE_SCALE}, the latent cell")
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
        """Return `count` mostly hidden squares of `size` px of two successive frames: the truth, and sampled latents.

        Shapes: [2·count, 3, size, size] in [-1, 1], and [2·count, 4, size/8, size/8]. Equal steps give equal squares.
        Raises UsageError if no square of that size is hidden enough.
        """
        cells = size // VAE_SCALE
        share = torch.nn.functional.avg_pool2d(self.hidden[:, None].float(), cells, 1)[:, 0]
        places = (share >= HIDDEN).nonzero().tolist()
        if not places:
            raise UsageError(f"no square of {size} px is hidden in any of {len(self.hidden)} windows; use more windows")
        rng = np.random.default_rng((self.seed, step, 4))
        frames, latents = [], []
        for _ in range(count):
            window, top, left = places[rng.integers(len(places))]
            first = rng.integers(self.frames.shape[1] - 1)
            y, x = top * VAE_SCALE, left * VAE_SCALE
            frames.append(self.frames[window, first : first + 2, y : y + size, x : x + size])
            latents.append(self.latents[window, first : first + 2, :, top : top + cells, left : left + cells])
        return to_tensor(np.concatenate(frames)), torch.cat(latents)
