"""HERO's kernels: temporal attention fused with the IM³ blend, and the blend alone."""

import logging

# registering a triton_op without triton installed warns; the ops then run their composed form, which is fine
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)

from hero_kernels.im3_blend.op import im3_blend  # noqa: E402
from hero_kernels.temporal_attention_im3.op import temporal_attention_im3  # noqa: E402

__all__ = ["im3_blend", "temporal_attention_im3"]
