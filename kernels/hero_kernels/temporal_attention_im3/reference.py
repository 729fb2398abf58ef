"""Specifies the fused operator. Every test and benchmark compares with this function."""

import torch
from torch import Tensor

from hero_kernels.im3_blend.reference import im3_blend


def temporal_attention_im3(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, num_heads: int) -> Tensor:
    """Compute M_I(alpha) · softmax(q kᵀ/√d) · v over frames (HERO Eq. 2 and 3), per head and per spatial token.

    Args:
        q: [B, F, S, C], C = num_heads · d.
        k: as q.
        v: as q.
        alpha: [1].
        num_heads: number of heads.

    Returns:
        [B, F, S, C] in the dtype of q. The computation is in FP32 (FP64 for FP64).
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    # [B, F, S, C] -> [B, S, H, F, d]
    qh, kh, vh = (x.to(wide).unflatten(-1, (num_heads, -1)).permute(0, 2, 3, 1, 4) for x in (q, k, v))
    probabilities = torch.softmax(qh @ kh.mT / qh.shape[-1] ** 0.5, dim=-1)
    out = (probabilities @ vh).permute(0, 3, 1, 2, 4).flatten(3)
    return im3_blend(out, alpha).to(q.dtype)
