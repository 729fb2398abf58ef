"""Registers `hero::temporal_attention_im3` as a torch operator for eager, torch.export, torch.compile, AOTInductor."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hero_kernels.im3_blend.op import check_alpha
from hero_kernels.temporal_attention_im3.reference import temporal_attention_im3 as reference


@torch.library.triton_op("hero::temporal_attention_im3", mutates_args={})
def _temporal_attention_im3(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, num_heads: int) -> Tensor:
    # a branch, because with register_kernel("cpu") the compiler fails on a CPU
    if q.is_cuda:
        from hero_kernels.temporal_attention_im3 import triton as fused

        if fused.fits(q, num_heads):
            return fused.temporal_attention_im3(q, k, v, alpha, num_heads)
    return composed(q, k, v, alpha, num_heads)


def composed(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, num_heads: int) -> Tensor:
    """Compute the operator by permute, SDPA and blend. It runs where the fused kernel does not; benchmarks compare."""
    batch, frames, tokens, channels = q.shape

    def heads_first(x: Tensor) -> Tensor:  # [B·S, H, F, d]
        return x.transpose(1, 2).reshape(batch * tokens, frames, num_heads, -1).transpose(1, 2)

    out = F.scaled_dot_product_attention(heads_first(q), heads_first(k), heads_first(v))
    out = out.transpose(1, 2).reshape(batch, tokens, frames, channels).transpose(1, 2)
    wide = out.to(torch.promote_types(out.dtype, torch.float32))  # alpha = 0.3 is 0.3008 in bfloat16
    a = alpha.to(wide.dtype)
    inner = a * (wide[:, :-2] + wide[:, 2:]) + (1 - 2 * a) * wide[:, 1:-1]
    return torch.cat([out[:, :1], inner.to(out.dtype), out[:, -1:]], dim=1)


def _setup_context(ctx, inputs, output) -> None:
    q, k, v, alpha, ctx.num_heads = inputs
    ctx.save_for_backward(q, k, v, alpha)


def _backward(ctx, grad: Tensor):
    q, k, v, alpha = (t.detach().requires_grad_() for t in ctx.saved_tensors)
    with torch.enable_grad():
        grads = torch.autograd.grad(reference(q, k, v, alpha, ctx.num_heads), (q, k, v, alpha), grad)
    return (*grads, None)


_temporal_attention_im3.register_autograd(_backward, setup_context=_setup_context)


def temporal_attention_im3(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, num_heads: int) -> Tensor:
    """Compute M_I(alpha) · softmax(q kᵀ/√d) · v over frames (HERO Eq. 2 and 3), per head and per spatial token.

    Args:
        q: [B, F, S, C] with F of 2 or more and C = num_heads · d. CUDA tensors of FP16, BF16 and FP32 use the Triton
            kernel. It takes F of at most 32, and d that is a multiple of 8 and at most 160.
        k: shape, dtype and device of q.
        v: shape, dtype and device of q.
        alpha: [1] on the device of q.
        num_heads: number of heads; C is a multiple of it.

    Returns:
        [B, F, S, C] in the dtype of q.

    Raises:
        ValueError: shapes, types or devices do not fit.
    """
    if q.ndim != 4 or q.shape != k.shape or q.shape != v.shape:
        raise ValueError(f"q, k, v must be equal [B, F, S, C]; got {list(q.shape)}, {list(k.shape)}, {list(v.shape)}")
    if len({q.dtype, k.dtype, v.dtype}) > 1 or len({q.device, k.device, v.device}) > 1:
        seen = ", ".join(f"{x.dtype} on {x.device}" for x in (q, k, v))
        raise ValueError(f"q, k, v must be of one type on one device; got {seen}")
    if q.shape[1] < 2:
        raise ValueError(f"F must be 2 or more: M_I keeps a first and a last frame; got F = {q.shape[1]}")
    if q.shape[-1] % num_heads:
        raise ValueError(f"C = {q.shape[-1]} is not a multiple of num_heads = {num_heads}")
    check_alpha(alpha, q)
    return torch.ops.hero.temporal_attention_im3(q, k, v, alpha, num_heads)
