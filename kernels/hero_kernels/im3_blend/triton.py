"""Triton kernel of the blend alone. It reads every element once; three frames at a time are in registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
TOKENS, CHANNELS = 32, 32  # of a program: square, for a residual whose tokens are adjacent (a transposed feature map)
NUM_WARPS = 4


def fits(x: Tensor) -> bool:
    """Return whether the kernel takes x: [B, F, S, C]. Other types run the composed form."""
    return x.dtype in DTYPES and x.shape[1] >= 2


def grid(batch: int, tokens: int, channels: int) -> tuple[int]:
    """Return the number of programs, all on axis 0: its limit is 2^31 - 1, that of axes 1 and 2 is 65,535."""
    return (batch * triton.cdiv(tokens, TOKENS) * triton.cdiv(channels, CHANNELS),)


@triton.jit
def im3_blend_kernel(
    x_ptr,
    alpha_ptr,
    residual_ptr,
    y_ptr,
    tokens,
    channels,
    x_batch,
    x_frame,
    x_token,
    x_channel,
    residual_batch,
    residual_frame,
    residual_token,
    residual_channel,
    FRAMES: tl.constexpr,
    TOKENS: tl.constexpr,
    CHANNELS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
):
    """y[b, f] = alpha·x[b, f-1] + (1 - 2·alpha)·x[b, f] + alpha·x[b, f+1] (+ residual[b, f]); the ends are kept.

    Strides in elements; y is contiguous. Without a residual its pointer and strides are not used.
    """
    across, down = tl.cdiv(channels, CHANNELS), tl.cdiv(tokens, TOKENS)
    program = tl.program_id(0)
    batch = (program // (across * down)).to(tl.int64)
    token = ((program // across % down) * TOKENS + tl.arange(0, TOKENS))[:, None]
    channel = ((program % across) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    mask = (token < tokens) & (channel < channels)
    token, channel = token.to(tl.int64), channel.to(tl.int64)

    y_frame = tl.cast(tokens, tl.int64) * channels  # not .to: a single token is compiled in as a constant
    x = x_ptr + batch * x_batch + token * x_token + channel * x_channel
    y = y_ptr + batch * FRAMES * y_frame + token * channels + channel
    residual = residual_ptr + batch * residual_batch + token * residual_token + channel * residual_channel
    alpha = tl.load(alpha_ptr).to(tl.float32)
    current = tl.load(x, mask=mask).to(tl.float32)
    before = current
    for f in tl.static_range(FRAMES):
        blended = current
        if f < FRAMES - 1:
            after = tl.load(x + x_frame, mask=mask).to(tl.float32)
            x += x_frame
            if f > 0:
                blended = alpha * (before + after) + (1.0 - 2.0 * alpha) * current
            before = current
            current = after
        if HAS_RESIDUAL:
            blended += tl.load(residual, mask=mask).to(tl.float32)
            residual += residual_frame
        tl.store(y, blended.to(y_ptr.dtype.element_ty), mask=mask)
        y += y_frame


def im3_blend(x: Tensor, alpha: Tensor, residual: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Compute M_I(alpha) x over frames, plus `residual`, in one kernel.

    Args:
        x: [B, F, S, C] with any strides.
        alpha: [1] on the same device.
        residual: [B, F, S, C] with any strides, or None.
        out: contiguous [B, F, S, C] that receives the result; None allocates it.

    Returns:
        The result, contiguous.
    """
    batch, frames, tokens, channels = x.shape
    added = x if residual is None else residual
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
    wrap_triton(im3_blend_kernel)[grid(batch, tokens, channels)](
        x, alpha, added, y, tokens, channels, *x.stride(), *added.stride(),
        FRAMES=frames, TOKENS=TOKENS, CHANNELS=CHANNELS, HAS_RESIDUAL=residual is not None, num_warps=NUM_WARPS,
    )  # fmt: skip
    return y
