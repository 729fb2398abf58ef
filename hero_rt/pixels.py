"""Converts frames between uint8 with channels last, and FP32 in [-1, 1] with channels first for the networks."""

import numpy as np
import torch
from torch import Tensor


def to_signed(frames: np.ndarray) -> Tensor:
    """Convert uint8 [..., h, w, 3] to FP32 [..., 3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 127.5 - 1


def to_grey_levels(frames: Tensor) -> np.ndarray:
    """Convert FP32 [..., 3, h, w] in [-1, 1], on any device, to uint8 [..., h, w, 3]. Values are rounded."""
    levels = frames.add(1).mul_(127.5).round_().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()
