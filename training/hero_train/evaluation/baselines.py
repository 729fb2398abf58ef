"""Fills that need no model: what a checkpoint must not fall behind."""

from collections.abc import Callable

import cv2
import numpy as np

from hero_rt.spec.canvas import Canvas
from hero_rt.stages.place import pixel_mask

Fill = Callable[[np.ndarray, Canvas], np.ndarray]
TELEA_RADIUS = 3  # px


def edge(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """The source's border, repeated outward. uint8 [F, h, w, 3] to [F, H, W, 3], as all of them."""
    return np.pad(source, _widths(canvas), mode="edge")


def reflection(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """The source mirrored at its border."""
    return np.pad(source, _widths(canvas), mode="symmetric")


def telea(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """OpenCV's inpainting by fast marching (Telea 2004), frame by frame."""
    unknown = pixel_mask(canvas)[0, : canvas.height, : canvas.width].numpy().astype(np.uint8)
    padded = np.pad(source, _widths(canvas))
    return np.stack([cv2.inpaint(frame, unknown, TELEA_RADIUS, cv2.INPAINT_TELEA) for frame in padded])


BASELINES: dict[str, Fill] = {"edge": edge, "reflection": reflection, "telea": telea}


def _widths(canvas: Canvas) -> tuple[tuple[int, int], ...]:
    return ((0, 0), (canvas.top, canvas.bottom), (canvas.left, canvas.right), (0, 0))
