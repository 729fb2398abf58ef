"""Outpaint each clip at each ratio, measure it beside the baselines, and say whether the targets are met."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hero_rt.outpainter import Outpainter
from hero_rt.request import OutpaintRequest, Padding
from hero_rt.spec.canvas import Canvas
from hero_rt.stages.place import pixel_mask
from hero_train.evaluation.clips import evaluation_clips
from hero_train.evaluation.measures import measure
from hero_train.evaluation.perceptual import perceptual_metrics
from hero_train.evaluation.targets import MODEL

TASK = "OPV"  # left and right
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


BASELINES: dict[str, Callable[[np.ndarray, Canvas], np.ndarray]] = {
    "edge": edge,
    "reflection": reflection,
    "telea": telea,
}


def _widths(canvas: Canvas) -> tuple[tuple[int, int], ...]:
    return ((0, 0), (canvas.top, canvas.bottom), (canvas.left, canvas.right), (0, 0))


def evaluate(
    outpainter: Outpainter,
    videos: list[Path],
    ratios: list[float],
    steps: int,
    size: int,
    seeds: Sequence[int],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Every clip (each video's centre, and a pan over it a speed) at every ratio, by the model from every seed.

    One seed is a draw: what a clip gains or loses by another noise is as much as two trainings differ by.
    Returns {"settings": ..., "missing": metrics that could not be had, with the reason, "rows": [{clip, pan, ratio,
    method, seed (None for a baseline), mse, psnr, ssim, ...}, ...]}, JSON-ready.
    """
    frames = outpainter.config.num_frames
    metrics, missing = perceptual_metrics()
    for metric, reason in missing.items():
        progress(f"no {metric}: {reason}")
    rows = []
    for (name, (is_pan, truth)), ratio in product(evaluation_clips(videos, frames, size).items(), ratios):
        canvas = evaluation_canvas(size, ratio)
        source = np.ascontiguousarray(canvas.source_of(truth))
        filled: dict[tuple[str, int | None], np.ndarray]
        filled = {(method, None): fill(source, canvas) for method, fill in BASELINES.items()}
        for seed in seeds:
            request = OutpaintRequest(frame=Padding.around(canvas), steps=steps, seed=seed)
            filled[MODEL, seed] = outpainter(source, request).frames
        found = []
        for (method, drawn_from), video in filled.items():
            key = {"clip": name, "pan": is_pan, "ratio": ratio, "method": method, "seed": drawn_from}
            quality = measure(video, truth, canvas) | {name: metric(video, truth) for name, metric in metrics.items()}
            found.append(key | {figure: round(value, 5) for figure, value in quality.items()})
        rows += found
        progress(f"{name} {ratio:g}: " + ", ".join(f"{row['method']} {row['psnr']:.1f} dB" for row in found))
    settings = {"model": outpainter.config.name, "task": TASK, "steps": steps, "size": size, "seeds": list(seeds)}
    return {"settings": settings | {"frames": frames}, "missing": missing, "rows": rows}


def evaluation_canvas(size: int, ratio: float) -> Canvas:
    """The sides of a frame of `size` px that are hidden, so that the whole frame is the truth."""
    hidden = round(size * ratio / 2)
    return Canvas.from_padding(size - 2 * hidden, size, (0, hidden, 0, hidden))
