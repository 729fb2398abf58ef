"""Makes training examples: a window, its hidden part, and the conditions as inference makes them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hero_rt.pixels import to_signed
from hero_rt.spec.canvas import Canvas
from hero_rt.spec.config import VAE_SCALE, HeroConfig
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import clip_pixels, window_inputs
from hero_train.videos import VideoWindows

MIN_RATIO, MAX_RATIO = 0.15, 0.78  # hidden share of an axis; the paper evaluates at 0.25 and 0.666
KNOWN_FRAMES_SHARE = 0.3  # share of windows with known first frames, as in `stream` mode from its second window on
ONE_SIDED_SHARE = 0.25
MIN_SOURCE = 16  # px an axis, for optical flow


class Task(NamedTuple):
    """canvas: position of the source; known_frames: number of first frames that are known as a whole."""

    canvas: Canvas
    known_frames: int


def random_task(width: int, height: int, rng: np.random.Generator) -> Task:
    """Draw OPV, OPH or OPC with a random ratio and split. At least one latent cell is hidden.

    width, height: of the whole frame in pixels. The source is a part of it.
    """
    task = rng.choice(["OPV", "OPH", "OPC"], p=[0.5, 0.25, 0.25])
    left, right = _two_sides(width, rng) if task in ("OPV", "OPC") else (0, 0)
    top, bottom = _two_sides(height, rng) if task in ("OPH", "OPC") else (0, 0)
    canvas = Canvas(width - left - right, height - top - bottom, top, right, bottom, left)
    known_frames = int(rng.integers(2, 5)) if rng.random() < KNOWN_FRAMES_SHARE else 0
    return Task(canvas, known_frames)


def _two_sides(extent: int, rng: np.random.Generator) -> tuple[int, int]:
    hidden = max(VAE_SCALE, round(extent * rng.uniform(MIN_RATIO, MAX_RATIO)))
    hidden = min(hidden, extent - MIN_SOURCE)
    if rng.random() < ONE_SIDED_SHARE:
        first = int(rng.choice([0, hidden]))
    elif rng.random() < 0.5:
        first = hidden // 2
    else:
        first = int(rng.integers(0, hidden + 1))
    return first, hidden - first


class TrainingExamples(Dataset[dict[str, Tensor]]):
    """Item i depends only on (seed, i), so a resumed run sees the same items.

    An item is that of `training_example`, and skipped: int64 [], the number of videos that did not decode.
    """

    def __init__(self, config: HeroConfig, folders: list[Path], size: int, seed: int, length: int):
        self.config = config
        self.windows = VideoWindows(folders, config.num_frames, size, seed, length)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        window, skipped = self.windows[index]
        rng = np.random.default_rng((self.windows.seed, index, 1))
        task = random_task(window.shape[2], window.shape[1], rng)
        return training_example(window, task, self.config) | {"skipped": torch.tensor(skipped)}


def training_example(window: np.ndarray, task: Task, config: HeroConfig) -> dict[str, Tensor]:
    """Make one example. window: whole frames, uint8 [F, H, W, 3]; `task` hides a part of them.

    Returns target: the whole frames, [F, 3, H, W] in [-1, 1]; frames, mask, flow_mask: as in `WindowInputs`;
    pixel_values [F, 3, 224, 224].
    """
    source = np.ascontiguousarray(task.canvas.source_of(window))
    finished = window[: task.known_frames] if task.known_frames else None
    flow = optical_flow(source)
    inputs = window_inputs(task.canvas, source, flow, finished, config.canvas_fill, config.flow_scale)
    given = {name: getattr(inputs, name) for name in ("frames", "mask", "flow_mask")}
    return given | {"target": to_signed(window), "pixel_values": clip_pixels(inputs.frames)}
