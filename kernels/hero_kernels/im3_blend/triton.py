"""The blend alone: every element is read once, a window of three frames slides along F in registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
COLUMNS = 1024  # (token, channel) pairs a program: eight a thread, 16-byte loads in half precision
NUM_WARPS = 4


def fits(x: Tensor) -> bool:
    """Whether the kernel takes x: [B, F, S, C]; other types run the composed form."""
    return x.dtype in DTYPES and x.shape[1] >= 2


def grid(batch: int, tokens: int, channels: int) -> tuple[int]:
    """Programs, all on axis 0: axes 1 and 2 end at 65,535, axis 0 at 2^31 - 1."""
    return (batch * triton.cdiv(tokens * channels, COLUMNS),)


@triton.jit
def im3_blend_kernel(
    x_ptr,
    alpha_ptr,
    residual_ptr,
    y_ptr,
    tokens,
    x_batch,
    x_frame,
    x_token,
    residual_batch,
    residual_frame,
    residual_token,
    FRAMES: tl.constexpr,
    CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
):
    """y[b, f] = alpha·x[b, f-1] + (1 - 2·alpha)·x[b, f] + alpha·x[b, f+1] (+ residual[b, f]); the ends are kept."""
    size = tokens.to(tl.int64) * CHANNELS
    blocks = tl.cdiv(size, COLUMNS)
    batch = (tl.program_id(0) // blocks).to(tl.int64)
    column = (tl.program_id(0) % blocks) * COLUMNS + tl.arange(0, COLUMNS)
    mask = column < size
    token, channel = column // CHANNELS, column % CHANNELS

    x = x_ptr + batch * x_batch + token * x_token + channel
    y = y_ptr + batch * FRAMES * size + column
    alpha = tl.load(alpha_ptr).to(tl.float32)
    current = tl.load(x, mask=mask).to(tl.float32)
    before = current
    for f in tl.static_range(FRAMES):
        blended = current
        if f < FRAMES - 1:
            after = tl.load(x + (f + 1) * x_frame, mask=mask).to(tl.float32)
            if f > 0:
                blended = alpha * (before + after) + (1.0 - 2.0 * alpha) * current
            before = current
            current = after
        if HAS_RESIDUAL:
            residual = residual_ptr + batch * residual_batch + token * residual_token + channel
            blended += tl.load(residual + f * residual_frame, mask=mask).to(tl.float32)
        tl.store(y + f * size, blended.to(y_ptr.dtype.element_ty), mask=mask)


def im3_blend(x: Tensor, alpha: Tensor, residual: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """M_I(alpha) x over frames, plus `residual`, fused.

    x, residual: [B, F, S, C], any strides (adjacent channels are read in place, others copied); alpha: [1] on the
    same device, read there. out: contiguous [B, F, S, C] to write into. Returns it.
    """
    batch, frames, tokens, channels = x.shape
    x, added = (t if t.stride(-1) == 1 else t.contiguous() for t in (x, x if residual is None else residual))
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
    wrap_triton(im3_blend_kernel)[grid(batch, tokens, channels)](
        x, alpha, added, y, tokens, *x.stride()[:3], *added.stride()[:3],
        FRAMES=frames, CHANNELS=channels, COLUMNS=COLUMNS, HAS_RESIDUAL=residual is not None, num_warps=NUM_WARPS,
    )  # fmt: skip
    return y
