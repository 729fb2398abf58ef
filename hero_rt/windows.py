"""Cutting a clip into the model's windows: jointly denoised with cross-fades, or one after the other."""

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
    """Repeat the last frame until there are `size`; longer clips come back as they are."""
    missing = size - len(frames)
    return frames if missing <= 0 else np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)])


def joint_windows(num_frames: int, size: int = 16, overlap: int = 4) -> list[Window]:
    """Windows of `size` that share `overlap` frames and cover the clip; the last is shifted back to its end.

    num_frames: at least `size` (pad_to_window first). Raises UsageError.
    """
    check_overlap(overlap, size)
    if num_frames < size:
        raise UsageError(f"{num_frames} frames are fewer than a window of {size}; repeat the last one first")
    starts = [*range(0, num_frames - size, size - overlap), num_frames - size]
    return [Window(start, start + size) for start in starts]


def fusion_weights(windows: Sequence[Window]) -> list[Tensor]:
    """Each window's weight per frame, [size] FP32: linear cross-fades in the overlaps, summing to 1 on every frame.

    Each window's ramp falls linearly over its overlap with the neighbour (a trapezoid), normalised over all windows
    that hold the frame, since the last window may reach further back than its neighbour.
    """
    total = torch.zeros(windows[-1].stop)
    ramps = []
    for i, window in enumerate(windows):
        size = window.stop - window.start
        ramp = torch.ones(size)
        if i > 0:
            shared = windows[i - 1].stop - window.start
            ramp[:shared] = torch.arange(1, shared + 1) / (shared + 1)
        if i + 1 < len(windows):
            shared = window.stop - windows[i + 1].start
            ramp[size - shared :] = torch.minimum(ramp[size - shared :], torch.arange(shared, 0, -1) / (shared + 1))
        ramps.append(ramp)
        total[window.start : window.stop] += ramp
    return [ramp / total[window.start : window.stop] for ramp, window in zip(ramps, windows, strict=True)]


def fuse(predictions: Sequence[Tensor], windows: Sequence[Window], weights: Sequence[Tensor]) -> Tensor:
    """Windows' predictions [size, ...] as one [N, ...] by their weights."""
    if len(predictions) == 1:
        return predictions[0]
    out = predictions[0].new_zeros(windows[-1].stop, *predictions[0].shape[1:])
    for prediction, window, weight in zip(predictions, windows, weights, strict=True):
        shape = (-1, *([1] * (prediction.ndim - 1)))
        out[window.start : window.stop] += prediction * weight.to(prediction).view(shape)
    return out


def count_stream_windows(num_frames: int, size: int = 16, carry: int = 4) -> int:
    """How many windows a clip takes where each after the first starts from `carry` frames of the one before."""
    return 1 + max(0, -(-(num_frames - size) // (size - carry)))


def check_overlap(overlap: int, size: int) -> None:
    """Raise UsageError where windows of `size` frames cannot share `overlap`."""
    if not 0 <= overlap < size:
        raise UsageError(f"overlap is {overlap} frames; windows of {size} can share 0 to {size - 1}")
