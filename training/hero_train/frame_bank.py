"""Frames held in memory for what learns from crops: decoded once, so that a step costs its arithmetic alone."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hero_rt.errors import UsageError
from hero_rt.pixels import to_signed
from hero_train.videos import VideoWindows


class FrameBank:
    """`count` pairs of successive frames of `size` x `size` px from folders of videos, uint8 [count, 2, size, size, 3].

    What it holds depends on the seed alone, a batch of crops on the seed and the step.
    """

    def __init__(self, folders: list[Path], count: int, size: int, seed: int, kept: Path | None = None):
        """kept: An .npy file that the frames are written to, and read from by a run that is resumed."""
        if kept is not None and kept.exists():
            self.pairs = np.load(kept)
        else:
            windows = VideoWindows(folders, 2, size, seed, count)
            self.pairs = np.stack([windows[index][0] for index in tqdm(range(count), desc="frames")])
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                part = kept.with_suffix(".part.npy")
                np.save(part, self.pairs)
                part.rename(kept)
        if self.pairs.shape != (count, 2, size, size, 3):
            raise UsageError(f"{kept} holds {self.pairs.shape[0]} pairs of {self.pairs.shape[2]} px; remove it")
        self.seed = seed

    def crops(self, step: int, count: int, size: int, frames: int = 1) -> Tensor:
        """`count` random squares of `size` px, of one frame or of two successive ones: [count * frames, 3, size, size].

        In [-1, 1]. Half are mirrored, and the colours of every second one are shuffled: photographs are blue, green
        and brown, and a red car came back yellow.
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
        """The first frames of `count` pairs, uncut: [count, 3, size, size] in [-1, 1]."""
        return to_tensor(self.pairs[:count, 0])


def to_tensor(frames: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] to [N, 3, H, W] in [-1, 1]."""
    tensor = to_signed(frames)
    return tensor.contiguous(memory_format=torch.channels_last)  # a third of a step on a CPU
