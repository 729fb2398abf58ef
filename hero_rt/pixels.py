"""Frames as grey levels (uint8, channels last) and as the networks take them (FP32 in [-1, 1], channels first)."""

import numpy as np
import torch
from torch import Tensor


def to_signed(frames: np.ndarray) -> Tensor:
    """uint8 [..., h, w, 3] to FP32 [..., 3, h, w] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 127.5 - 1


def to_grey_levels(frames: Tensor) -> np.ndarray:
    """FP32 [..., 3, h, w] in [-1, 1], any device, to uint8 [..., h, w, 3]. Values are rounded."""
    levels = frames.add(1).mul_(127.5).round_().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()
