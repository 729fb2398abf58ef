"""A window of frames as the training step reads it: what is hidden, and every condition made as inference makes it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hero_rt.pixels import to_signed
from hero_rt.spec.config import CanvasFill, HeroConfig
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import clip_pixels, window_inputs
from hero_train.tasks import Task, random_task
from hero_train.videos import VideoWindows


class TrainingExamples(Dataset[dict[str, Tensor]]):
    """Item i depends on (seed, i) alone: that is what makes a resumed run see what the killed one would have.

    What `training_example` returns, and skipped: int64 [], videos that did not decode.
    """

    def __init__(self, config: HeroConfig, folders: list[Path], size: int, seed: int, length: int):
        self.fill, self.flow_scale = config.canvas_fill, config.flow_scale
        self.windows = VideoWindows(folders, config.num_frames, size, seed, length)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        window, skipped = self.windows[index]
        rng = np.random.default_rng((self.windows.seed, index, 1))
        task = random_task(window.shape[2], window.shape[1], rng)
        return training_example(window, task, self.fill, self.flow_scale) | {"skipped": torch.tensor(skipped)}


def training_example(window: np.ndarray, task: Task, fill: CanvasFill, flow_scale: float | None) -> dict[str, Tensor]:
    """window: uint8 [F, H, W, 3], whole frames, of which `task` hides a part; fill, flow_scale: the model's.

    Returns target: [F, 3, H, W] in [-1, 1], the whole frames; frames, mask, flow_mask: as `WindowInputs`;
    pixel_values [F, 3, 224, 224].
    """
    source = np.ascontiguousarray(task.canvas.source_of(window))
    finished = window[: task.known_frames] if task.known_frames else None
    inputs = window_inputs(task.canvas, source, optical_flow(source), finished, fill, flow_scale)
    return {
        "target": to_signed(window),
        "frames": inputs.frames,
        "mask": inputs.mask,
        "flow_mask": inputs.flow_mask,
        "pixel_values": clip_pixels(inputs.frames),
    }
