"""Specifies the blend. Every test and benchmark compares with this function."""

import torch
from torch import Tensor


def im3_blend(x: Tensor, alpha: Tensor, residual: Tensor | None = None) -> Tensor:
    """Compute M_I(alpha) x over frames, plus `residual` (HERO Eq. 2 and 3).

    The first and the last frame are kept. Inner frames become
    alpha·x[f-1] + (1 - 2·alpha)·x[f] + alpha·x[f+1].

    Args:
        x: [B, F, S, C].
        alpha: [1].
        residual: [B, F, S, C] or None.

    Returns:
        Shape and dtype of x. The blend is computed in FP32 (FP64 for FP64).
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    y, a = x.to(wide), alpha.to(wide)
    inner = a * y[:, :-2] + (1 - 2 * a) * y[:, 1:-1] + a * y[:, 2:]
    y = torch.cat([y[:, :1], inner, y[:, -1:]], dim=1)
    if residual is not None:
        y = y + residual.to(wide)
    return y.to(x.dtype)
