"""Converts frames in memory from the types that diffusers' pipelines take and return."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from hero_rt.errors import UsageError, VideoError


def is_frames(video: Any) -> bool:
    """Return whether `video` is an array, a tensor or a list, which `to_frames` may take."""
    return (
        isinstance(video, np.ndarray)
        or _is_tensor(video)
        or (isinstance(video, Sequence) and not isinstance(video, str))
    )


def to_frames(video: Any) -> np.ndarray:
    """Convert frames in memory to uint8 [N, h, w, 3] RGB.

    Args:
        video: numpy uint8 or float in [0, 1], [N, h, w, 3]; torch uint8 or float in [0, 1], [N, 3, h, w]; or a list of
            PIL images of one size. Floats are rounded to 255 levels.

    Raises:
        UsageError: another type, shape or value.
        VideoError: there is no frame.
    """
    if _is_tensor(video):
        kind, frames = "tensor [N, 3, h, w]", video.detach().cpu().numpy()
        frames = np.moveaxis(frames, 1, -1) if frames.ndim == 4 else frames
    elif isinstance(video, np.ndarray):
        kind, frames = "array [N, h, w, 3]", video
    else:
        return _from_images(video)
    if frames.ndim != 4 or frames.shape[-1] != 3 or (frames.dtype != np.uint8 and frames.dtype.kind != "f"):
        raise UsageError(
            f"video is {str(video.dtype).removeprefix('torch.')}{list(video.shape)}, expected a uint8 or float {kind}"
        )
    if len(frames) == 0:
        raise VideoError(f"video {kind} has zero frames")
    if frames.dtype == np.uint8:
        return frames
    low, high = float(frames.min()), float(frames.max())
    if not 0 <= low <= high <= 1:
        raise UsageError(f"video {kind} holds floats from {low:g} to {high:g}, expected 0 to 1 (or uint8)")
    return (frames * 255).round().astype(np.uint8)


def _from_images(images: Sequence[Any]) -> np.ndarray:
    if not images:
        raise VideoError("the list of images is empty")
    for number, image in enumerate(images):
        if not isinstance(image, Image.Image):
            raise UsageError(f"frame {number} of the list is a {type(image).__name__}, expected a PIL image")
        if image.size != images[0].size:
            sizes = ["{}x{}".format(*found.size) for found in (image, images[0])]
            raise UsageError(f"frame {number} of the list is {sizes[0]}, frame 0 is {sizes[1]}; give them one size")
    return np.stack([np.asarray(image.convert("RGB")) for image in images])


def _is_tensor(video: Any) -> bool:
    torch = sys.modules.get("torch")  # a caller with a tensor has imported it
    return torch is not None and isinstance(video, torch.Tensor)
