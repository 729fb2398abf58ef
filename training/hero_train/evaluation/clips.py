"""Evaluation clips: 16 frames of a held-out video, and camera pans whose missing content other frames show."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from hero_rt.errors import UsageError
from hero_rt.video import open_video

PAN_SPEEDS = (2.0, 4.0)  # px a frame


def evaluation_clips(videos: list[Path], frames: int, size: int) -> dict[str, tuple[bool, np.ndarray]]:
    """By name: of every video its centre, and a pan over it a speed; whether it is a pan, and its frames."""
    clips: dict[str, tuple[bool, np.ndarray]] = {}
    for path in videos:
        clips[path.stem] = (False, centre_crop(path, frames, size))
        for speed in PAN_SPEEDS:
            clips[f"pan {speed:g} px, {path.stem}"] = (True, pan(path, speed, frames, size))
    return clips


def centre_crop(path: Path, frames: int, size: int) -> np.ndarray:
    """The first frames, scaled until their shorter side is `size`: the centre, uint8 [frames, size, size, 3].

    Raises UsageError for a video that is shorter or smaller.
    """
    with open_video(path) as source:
        if min(source.width, source.height) < size:
            raise UsageError(f"{path} is {source.width}x{source.height}; evaluation needs {size} px a side")
        scale = size / min(source.width, source.height)
        width, height = round(source.width * scale), round(source.height * scale)
        top, left = (height - size) // 2, (width - size) // 2
        scaled = (
            cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            for frame in islice(source.frames(), frames)
        )
        clip = [frame[top : top + size, left : left + size] for frame in scaled]
    if len(clip) < frames:
        raise UsageError(f"{path} has {len(clip)} frames; evaluation needs {frames}")
    return np.ascontiguousarray(np.stack(clip))


def pan(path: Path, speed: float, frames: int, size: int) -> np.ndarray:
    """A camera that moves level by `speed` px a frame over the video's first frame, scaled so that it fits twice."""
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
