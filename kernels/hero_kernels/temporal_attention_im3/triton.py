"""Triton kernel of temporal attention with the blend. It reads q, k and v once and writes o once, as [B, F, S, C].

A program owns `pairs` consecutive (token, head) pairs of one batch row. Heads are adjacent in C, so consecutive pairs
are consecutive memory. Each pair is one [F, F] attention. A batched tl.dot computes them in 16 x 16 tiles, the tensor
core's size, for a head of any width. The blend acts on the probabilities (F values a row), not on the output (d values
a row, d >= F in every preset): M_I (P V) = (M_I P) V.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

MAX_FRAMES = 32
MAX_HEAD_DIM = 160
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Config:
    """Says how a shape is divided.

    Attributes:
        pairs: (token, head) pairs of a program.
        channels: channels of a load.
        num_warps: warps of a program.
    """

    pairs: int
    channels: int
    num_warps: int


# The benchmark's --tune tries all of them. A rule chooses the default, so nothing is tuned inside a capture.
CONFIGS = tuple(
    Config(pairs, channels, num_warps)
    for pairs in (2, 4, 8, 16)
    for channels in (16, 32, 64)
    for num_warps in (2, 4, 8)
    if 2 * pairs >= num_warps  # at most two warps share a tile, so softmax and blend stay in one or two warps
)


def default_config(frames: int, head_dim: int, itemsize: int) -> Config:
    """Return the configuration of a shape. It is the same on every run and device.

    `channels` divides a preset's head with less than one tile of padding. `pairs` is what fits in registers.

    Args:
        frames: F.
        head_dim: d.
        itemsize: bytes of an element.
    """
    if itemsize == 4 and frames > 16:
        return Config(pairs=4, channels=16, num_warps=8)  # four warps spill
    channels = 32 if head_dim % 32 == 0 else 16
    return Config(pairs=8 if itemsize == 2 and frames <= 16 else 4, channels=channels, num_warps=4)


def fits(q: Tensor, num_heads: int) -> bool:
    """Return whether the kernel takes q: [B, F, S, C]. Other shapes run the composed form."""
    head_dim = q.shape[-1] // num_heads
    return q.dtype in DTYPES and 2 <= q.shape[1] <= MAX_FRAMES and head_dim % 8 == 0 and head_dim <= MAX_HEAD_DIM


def grid(batch: int, tokens: int, num_heads: int, config: Config) -> tuple[int]:
    """Return the number of programs, all on axis 0: its limit is 2^31 - 1, that of axes 1 and 2 is 65,535."""
    return (batch * triton.cdiv(tokens * num_heads, config.pairs),)


def constants(frames: int, num_heads: int, head_dim: int, config: Config) -> dict[str, int]:
    """Return the kernel's compile-time arguments."""
    return {
        "HEADS": num_heads,
        "HEAD_DIM": head_dim,
        "FRAMES": frames,
        "FRAMES_PADDED": max(16, triton.next_power_of_2(frames)),
        "PAIRS": config.pairs,
        "CHANNELS": config.channels,
    }


# o is last: TensorRT passes a plugin's inputs, then scalars, then outputs
@triton.jit
def temporal_attention_im3_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    alpha_ptr,
    tokens,
    q_batch,
    q_frame,
    q_token,
    k_batch,
    k_frame,
    k_token,
    v_batch,
    v_frame,
    v_token,
    o_ptr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    FRAMES: tl.constexpr,
    FRAMES_PADDED: tl.constexpr,
    PAIRS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """o[b, f, s, h] = M_I(alpha) · softmax(q kᵀ/√d) · v. Strides in elements; channels adjacent; o contiguous."""
    blocks = tl.cdiv(tokens * HEADS, PAIRS)
    batch = (tl.program_id(0) // blocks).to(tl.int64)
    pair = (tl.program_id(0) % blocks) * PAIRS + tl.arange(0, PAIRS)
    token = (pair // HEADS).to(tl.int64)[:, None, None]
    head = (pair % HEADS * HEAD_DIM)[:, None, None]
    frame = tl.arange(0, FRAMES_PADDED)
    row = frame[None, :, None]
    column = tl.arange(0, CHANNELS)[None, None, :]
    inside = (pair < tokens * HEADS)[:, None, None] & (row < FRAMES)

    q_tile = q_ptr + batch * q_batch + token * q_token + head + row.to(tl.int64) * q_frame + column
    k_tile = k_ptr + batch * k_batch + token * k_token + head + row.to(tl.int64) * k_frame + column
    v_tile = v_ptr + batch * v_batch + token * v_token + head + row.to(tl.int64) * v_frame + column
    o_frame = tl.cast(tokens, tl.int64) * (HEADS * HEAD_DIM)  # not .to: a single token is compiled in as a constant
    o_tile = o_ptr + batch * FRAMES * o_frame + token * (HEADS * HEAD_DIM) + head + row * o_frame + column

    scores = tl.zeros((PAIRS, FRAMES_PADDED, FRAMES_PADDED), dtype=tl.float32)
    for start in tl.static_range(0, HEAD_DIM, CHANNELS):
        mask = inside & (column < HEAD_DIM - start)
        q = tl.load(q_tile + start, mask=mask, other=0.0)
        k = tl.load(k_tile + start, mask=mask, other=0.0)
        scores = tl.dot(q, tl.trans(k, 0, 2, 1), scores, input_precision="ieee")

    log2_e: tl.constexpr = 1.4426950408889634
    scores = tl.where(frame[None, None, :] < FRAMES, scores * (log2_e / HEAD_DIM**0.5), -float("inf"))
    weights = tl.exp2(scores - tl.max(scores, axis=2, keep_dims=True))
    p = weights / tl.sum(weights, axis=2, keep_dims=True)

    alpha = tl.load(alpha_ptr).to(tl.float32)
    shape: tl.constexpr = (PAIRS, FRAMES_PADDED, FRAMES_PADDED)
    before = tl.gather(p, tl.broadcast_to(tl.maximum(row - 1, 0), shape), 1)
    after = tl.gather(p, tl.broadcast_to(tl.minimum(row + 1, FRAMES_PADDED - 1), shape), 1)
    inner = (row > 0) & (row < FRAMES - 1)
    p = tl.where(inner, alpha * (before + after) + (1.0 - 2.0 * alpha) * p, p).to(v_ptr.dtype.element_ty)

    for start in tl.static_range(0, HEAD_DIM, CHANNELS):
        mask = inside & (column < HEAD_DIM - start)
        v = tl.load(v_tile + start, mask=mask, other=0.0)
        o = tl.dot(p, v, input_precision="ieee")
        tl.store(o_tile + start, o.to(o_ptr.dtype.element_ty), mask=mask)


def temporal_attention_im3(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    num_heads: int,
    out: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """Compute M_I(alpha) · softmax(q kᵀ/√d) · v over frames in one kernel.

    Args:
        q: [B, F, S, C], C = num_heads · d, with any strides. A tensor whose channels are not adjacent is copied.
        k: as q.
        v: as q.
        alpha: [1] on the same device.
        num_heads: number of heads.
        out: contiguous [B, F, S, C] that receives the result; None allocates it.
        config: how the shape is divided; None is `default_config`.

    Returns:
        The result, contiguous.
    """
    batch, frames, tokens, channels = q.shape
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    o = torch.empty(q.shape, dtype=q.dtype, device=q.device) if out is None else out
    config = config or default_config(frames, channels // num_heads, q.element_size())
    wrap_triton(temporal_attention_im3_kernel)[grid(batch, tokens, num_heads, config)](
        q, k, v, alpha, tokens, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], o,
        **constants(frames, num_heads, channels // num_heads, config), num_warps=config.num_warps,
    )  # fmt: skip
    return o
