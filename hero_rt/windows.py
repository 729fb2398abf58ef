"""Cutting a clip into the model's windows: jointly denoised with cross-fades, or one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

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
    _check_shared(size, overlap, "overlap")
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


@dataclass(frozen=True)
class StreamWindow:
    """One chronological window over a clip that is still being read.

    frames: uint8 [size, h, w, 3], sources. The first `carried` were in the window before and are finished by now,
    the next `valid` are new, and the rest repeat the last one.
    """

    frames: np.ndarray
    carried: int
    valid: int


def stream_windows(frames: Iterator[np.ndarray], size: int = 16, carry: int = 4) -> Iterator[StreamWindow]:
    """Windows over an iterator of uint8 [h, w, 3] frames, pulled as needed: memory does not grow with the clip.

    The first window takes `size` new frames, each later one `size - carry` and the `carry` before them.
    Raises UsageError.
    """
    _check_shared(size, carry, "carry")
    tail: list[np.ndarray] = []
    while new := list(islice(frames, size - len(tail))):
        held = tail + new
        yield StreamWindow(pad_to_window(np.stack(held), size), carried=len(tail), valid=len(new))
        tail = held[len(held) - carry :] if carry < len(held) else held


def count_stream_windows(num_frames: int, size: int = 16, carry: int = 4) -> int:
    """How many windows `stream_windows` makes of a clip whose length is known."""
    return 1 + max(0, -(-(num_frames - size) // (size - carry)))


def _check_shared(size: int, shared: int, name: str) -> None:
    if not 0 <= shared < size:
        raise UsageError(f"{name} is {shared} frames; windows of {size} can share 0 to {size - 1}")
