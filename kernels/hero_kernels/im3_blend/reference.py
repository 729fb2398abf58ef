"""The specification of the blend; every test and benchmark compares with this."""

import torch
from torch import Tensor


def im3_blend(x: Tensor, alpha: Tensor, residual: Tensor | None = None) -> Tensor:
    """M_I(alpha) x over frames, plus `residual` (HERO Eq. 2 and 3).

    x, residual: [B, F, S, C]; alpha: [1]. The first and the last frame are kept; inner frames become
    alpha·x[f-1] + (1 - 2·alpha)·x[f] + alpha·x[f+1]. Computed in FP32 (FP64 for FP64). Returns x's shape and dtype.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    y, a = x.to(wide), alpha.to(wide)
    inner = a * y[:, :-2] + (1 - 2 * a) * y[:, 1:-1] + a * y[:, 2:]
    y = torch.cat([y[:, :1], inner, y[:, -1:]], dim=1)
    if residual is not None:
        y = y + residual.to(wide)
    return y.to(x.dtype)
