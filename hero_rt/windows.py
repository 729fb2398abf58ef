"""Cuts a clip into the model's windows, which are denoised jointly with cross-fades, or one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hero_rt.errors import UsageError


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) of a clip."""

    start: int
    stop: int


def pad_to_window(frames: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last frame until there are `size` frames. A longer clip is returned as it is."""
    missing = size - len(frames)
    return frames if missing <= 0 else np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])


def joint_windows(num_frames: int, size: int = 16, overlap: int = 4) -> list[Window]:
    """Return windows of `size` that share `overlap` frames and cover the clip. The last one ends with the clip.

    num_frames: at least `size` (pad_to_window first). Raises UsageError.
    """
    check_overlap(overlap, size)
    if num_frames < size:
        raise UsageError(f"{num_frames} frames are fewer than a window of {size}; repeat the last one first")
    starts = [*range(0, num_frames - size, size - overlap), num_frames - size]
    return [Window(start, start + size) for start in starts]


def fusion_weights(windows: Sequence[Window]) -> list[Tensor]:
    """Return the weights of each window, [size] FP32. They cross-fade in the overlaps and sum to 1 on every frame.

    The weight of a window falls linearly over its overlap with a neighbour. It is divided by the sum over all windows
    of the frame, because the last window may overlap more than one window.
    """
    total = torch.zeros(windows[-1].stop)
    ramps = []
    for i, window in enumerate(windows):
        rising = torch.arange(1, window.stop - window.start + 1)
        ramp = torch.ones(len(rising))
        if i > 0:
            ramp = ramp.minimum(rising / (windows[i - 1].stop - window.start + 1))
        if i + 1 < len(windows):
            ramp = ramp.minimum(rising.flip(0) / (window.stop - windows[i + 1].start + 1))
        ramps.append(ramp)
        total[window.start : window.stop] += ramp
    return [ramp / total[window.start : window.stop] for ramp, window in zip(ramps, windows, strict=True)]


def fuse(predictions: Sequence[Tensor], windows: Sequence[Window], weights: Sequence[Tensor]) -> Tensor:
    """Sum the predictions of all windows, [size, ...] each, by their weights. Returns [N, ...]."""
    if len(predictions) == 1:
        return predictions[0]
    out = predictions[0].new_zeros(windows[-1].stop, *predictions[0].shape[1:])
    for prediction, window, weight in zip(predictions, windows, weights, strict=True):
        shape = (-1, *([1] * (prediction.ndim - 1)))
        out[window.start : window.stop] += prediction * weight.to(prediction).view(shape)
    return out


def count_stream_windows(num_frames: int, size: int = 16, carry: int = 4) -> int:
    """Return the number of windows of a clip. Each after the first starts from `carry` frames of the one before."""
    return 1 + max(0, -(-(num_frames - size) // (size - carry)))


def check_overlap(overlap: int, size: int) -> None:
    """Raise UsageError if windows of `size` frames cannot share `overlap` frames."""
    if not 0 <= overlap < size:
        raise UsageError(f"overlap is {overlap} frames; windows of {size} can share 0 to {size - 1}")
