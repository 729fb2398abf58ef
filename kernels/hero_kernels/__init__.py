"""HERO's kernels: temporal attention fused with the IM³ blend, and the blend alone."""

import logging

# without triton, registering a triton_op warns, and the operators run their composed form
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)

from hero_kernels.im3_blend.op import im3_blend  # noqa: E402
from hero_kernels.temporal_attention_im3.op import temporal_attention_im3  # noqa: E402

__all__ = ["im3_blend", "temporal_attention_im3"]
