"""Truths that share no code with the kernels: M_I as the paper writes it, and torch's own attention in float64."""

import torch
import torch.nn.functional as F
from torch import Tensor


def blend_matrix(alpha: float, frames: int) -> Tensor:
    """M_I of HERO Eq. 2, dense, [F, F] float64: M1 keeps the two ends, M2 the inner frames, M3 their neighbours."""
    m1, m2, m3 = (torch.zeros(frames, frames, dtype=torch.float64) for _ in range(3))
    m1[0, 0] = m1[frames - 1, frames - 1] = 1
    for f in range(1, frames - 1):
        m2[f, f] = 1
        m3[f, f - 1] = m3[f, f + 1] = 1
    return m1 + (1 - 2 * alpha) * m2 + alpha * m3


def blend(x: Tensor, alpha: float) -> Tensor:
    """M_I x, x [B, F, S, C], in float64."""
    return torch.einsum("gf,bfsc->bgsc", blend_matrix(alpha, x.shape[1]), x.double())


def attention(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """Temporal attention without the blend: permuted to [B·S, H, F, d], SDPA in float64, permuted back."""
    b, f, s, c = q.shape

    def permuted(x: Tensor) -> Tensor:
        return x.double().permute(0, 2, 1, 3).reshape(b * s, f, num_heads, c // num_heads).permute(0, 2, 1, 3)

    out = F.scaled_dot_product_attention(permuted(q), permuted(k), permuted(v))
    return out.permute(0, 2, 1, 3).reshape(b, s, f, c).permute(0, 2, 1, 3)
