"""Outpaint each clip at each ratio, measure it beside the baselines, and say whether the targets are met."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hero_rt.outpainter import Outpainter
from hero_rt.request import OutpaintRequest, Padding
from hero_rt.spec.canvas import Canvas
from hero_train.evaluation.baselines import BASELINES
from hero_train.evaluation.clips import evaluation_clips
from hero_train.evaluation.measures import measure
from hero_train.evaluation.perceptual import perceptual_metrics

TASK = "OPV"  # left and right
MODEL = "HERO"


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
    clips = evaluation_clips(videos, frames, size)
    metrics, missing = perceptual_metrics()
    for metric, reason in missing.items():
        progress(f"no {metric}: {reason}")
    rows = []
    for name, (is_pan, truth) in clips.items():
        for ratio in ratios:
            canvas = evaluation_canvas(size, ratio)
            source = np.ascontiguousarray(canvas.source_of(truth))
            filled: list[tuple[str, int | None, np.ndarray]] = [
                (method, None, fill(source, canvas)) for method, fill in BASELINES.items()
            ]
            for seed in seeds:
                request = OutpaintRequest(frame=Padding.around(canvas), steps=steps, seed=seed)
                filled.append((MODEL, seed, outpainter(source, request).frames))
            found = []
            for method, drawn_from, video in filled:
                quality = measure(video, truth, canvas).to_dict()
                quality |= {metric: round(compute(video, truth), 5) for metric, compute in metrics.items()}
                key = {"clip": name, "pan": is_pan, "ratio": ratio, "method": method, "seed": drawn_from}
                found.append(key | quality)
            rows += found
            progress(f"{name} {ratio:g}: " + ", ".join(f"{row['method']} {row['psnr']:.1f} dB" for row in found))
    settings = {"model": outpainter.config.name, "task": TASK, "steps": steps, "size": size, "seeds": list(seeds)}
    return {"settings": settings | {"frames": frames}, "missing": missing, "rows": rows}


def evaluation_canvas(size: int, ratio: float) -> Canvas:
    """The sides of a frame of `size` px that are hidden, so that the whole frame is the truth."""
    hidden = round(size * ratio / 2)
    return Canvas.from_padding(size - 2 * hidden, size, (0, hidden, 0, hidden))
