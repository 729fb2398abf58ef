"""What is hidden from the model in a training window: the paper's three tasks, at random."""

from dataclasses import dataclass

import numpy as np

from hero_rt.spec.canvas import Canvas
from hero_rt.spec.config import VAE_SCALE

MIN_RATIO, MAX_RATIO = 0.15, 0.78  # of an axis; the paper evaluates at 0.25 and 0.666
KNOWN_FRAMES_SHARE = 0.3  # of the windows; what `stream` mode meets from its second window on
ONE_SIDED_SHARE = 0.25
MIN_SOURCE = 16  # px an axis, for optical flow


@dataclass(frozen=True)
class Task:
    """canvas: where the source lies; known_frames: how many first frames are known whole."""

    canvas: Canvas
    known_frames: int


def random_task(width: int, height: int, rng: np.random.Generator) -> Task:
    """OPV, OPH or OPC of a random ratio, split evenly, unevenly or to one side; at least one latent cell is hidden.

    width, height: of the whole frame in pixels, of which the source is a part.
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
