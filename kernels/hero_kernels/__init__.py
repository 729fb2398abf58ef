"""HERO's kernels: temporal attention fused with the IM³ blend, and the blend alone."""

from hero_kernels.im3_blend.op import im3_blend
from hero_kernels.temporal_attention_im3.op import temporal_attention_im3

__all__ = ["im3_blend", "temporal_attention_im3"]
