"""Outpaints clips at several ratios, and measures the result and the baselines."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hero_rt.errors import UsageError
from hero_rt.outpainter import Outpainter
from hero_rt.request import OutpaintRequest, Padding
from hero_rt.spec.canvas import Canvas
from hero_rt.stages.place import pixel_mask
from hero_rt.video import open_video
from hero_train.evaluation.measures import measure, perceptual_metrics
from hero_train.evaluation.targets import MODEL

TASK = "OPV"  # left and right
TELEA_RADIUS = 3  # px
PAN_SPEEDS = (2.0, 4.0)  # px a frame


def edge(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Repeat the source's border outward. Every baseline maps uint8 [F, h, w, 3] to [F, H, W, 3]."""
    return np.pad(source, _widths(canvas), mode="edge")


def reflection(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Mirror the source at its border."""
    return np.pad(source, _widths(canvas), mode="symmetric")


def telea(source: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Inpaint each frame by fast marching (Telea 2004), with OpenCV."""
    unknown = pixel_mask(canvas)[0, : canvas.height, : canvas.width].numpy().astype(np.uint8)
    padded = np.pad(source, _widths(canvas))
    return np.stack([cv2.inpaint(frame, unknown, TELEA_RADIUS, cv2.INPAINT_TELEA) for frame in padded])


BASELINES = {"edge": edge, "reflection": reflection, "telea": telea}


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
    """Measure every clip at every ratio, by the model with every seed and by the baselines.

    Clips are each video's centre, and a pan over it per speed. Several seeds are needed: another noise changes a clip's
    figures as much as another training does.
    Returns {"settings": ..., "missing": unavailable metrics with the reason, "rows": [{clip, pan, ratio,
    method, seed (None for a baseline), mse, psnr, ssim, ...}, ...]}, JSON-ready.
    """
    outpainter.set_progress_bar_config(disable=True)
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
    """Return the canvas of a frame of `size` px whose sides are hidden. The whole frame is the truth."""
    hidden = round(size * ratio / 2)
    return Canvas(size - 2 * hidden, size, 0, hidden, 0, hidden)


def evaluation_clips(videos: list[Path], frames: int, size: int) -> dict[str, tuple[bool, np.ndarray]]:
    """Return by name whether a clip is a pan, and its frames: each video's centre, and a pan over it per speed."""
    clips: dict[str, tuple[bool, np.ndarray]] = {}
    for path in videos:
        clips[path.stem] = (False, centre_crop(path, frames, size))
        for speed in PAN_SPEEDS:
            clips[f"pan {speed:g} px, {path.stem}"] = (True, pan(path, speed, frames, size))
    return clips


def centre_crop(path: Path, frames: int, size: int) -> np.ndarray:
    """Return the centre of the first frames, whose shorter side is scaled to `size`: uint8 [frames, size, size, 3].

    Raises UsageError for a video that is too short or too small.
    """
    with open_video(path) as source:
        if min(source.width, source.height) < size:
            raise UsageError(f"{path} is {source.width}x{source.height}; evaluation needs {size} px a side")
        scale = size / min(source.width, source.height)
        width, height = round(source.width * scale), round(source.height * scale)
        top, left = (height - size) // 2, (width - size) // 2
        resize = partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_AREA)
        scaled = map(resize, islice(source.frames(), frames))
        clip = [frame[top : top + size, left : left + size] for frame in scaled]
    if len(clip) < frames:
        raise UsageError(f"{path} has {len(clip)} frames; evaluation needs {frames}")
    return np.ascontiguousarray(np.stack(clip))


def pan(path: Path, speed: float, frames: int, size: int) -> np.ndarray:
    """Pan by `speed` px per frame over the video's first frame, which is scaled to be wide enough."""
    with open_video(path) as source:
        still = next(iter(source.frames()))
    travel = speed * (frames - 1)
    scale = max(1.2 * size / still.shape[0], (1.2 * size + travel) / still.shape[1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    still = cv2.resize(still, None, fx=scale, fy=scale, interpolation=method)
    centre_y, middle = still.shape[0] / 2, still.shape[1] / 2
    return np.stack(
        [cv2.getRectSubPix(still, (size, size), (middle + speed * t - travel / 2, centre_y)) for t in range(frames)]
    )
