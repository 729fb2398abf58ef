"""Registers `hero::im3_blend` as a torch operator for eager, torch.export, torch.compile and AOTInductor."""

import torch
from torch import Tensor

from hero_kernels.im3_blend.reference import im3_blend as reference


@torch.library.triton_op("hero::im3_blend", mutates_args={})
def _im3_blend(x: Tensor, alpha: Tensor, residual: Tensor | None = None) -> Tensor:
    # a branch, because with register_kernel("cpu") the compiler fails on a CPU
    if x.is_cuda:
        from hero_kernels.im3_blend import triton as fused

        if fused.fits(x):
            return fused.im3_blend(x, alpha, residual)
    return reference(x, alpha, residual)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*(t for t in inputs if t is not None))


def _backward(ctx, grad: Tensor):
    saved = [t.detach().requires_grad_() for t in ctx.saved_tensors]
    with torch.enable_grad():
        grads = torch.autograd.grad(reference(*saved), saved, grad)
    return (*grads, *([None] * (3 - len(grads))))


_im3_blend.register_autograd(_backward, setup_context=_setup_context)


def im3_blend(x: Tensor, alpha: Tensor, residual: Tensor | None = None) -> Tensor:
    """Blend each inner frame with its two neighbours: M_I(alpha) x, plus `residual` (HERO Eq. 2 and 3).

    Args:
        x: [B, F, S, C] with F of 2 or more. CUDA tensors of FP16, BF16 and FP32 use the Triton kernel.
        alpha: [1] on the device of x.
        residual: shape and dtype of x, or None.

    Returns:
        Shape and dtype of x. The blend is computed in FP32 (FP64 for FP64).

    Raises:
        ValueError: shapes, types or devices do not fit.
    """
    if x.ndim != 4 or x.shape[1] < 2:
        raise ValueError(f"x must be [B, F, S, C] with F of 2 or more; got {list(x.shape)}")
    if residual is not None and (residual.shape, residual.dtype) != (x.shape, x.dtype):
        raise ValueError(
            f"residual must equal x in shape and type: {list(x.shape)} {x.dtype}; "
            f"got {list(residual.shape)} {residual.dtype}"
        )
    check_alpha(alpha, x)
    return torch.ops.hero.im3_blend(x, alpha, residual)


def check_alpha(alpha: Tensor, x: Tensor) -> None:
    """Raise ValueError unless alpha is [1] on the device of x. The kernel reads it there without a synchronisation."""
    if alpha.shape != (1,) or alpha.device != x.device:
        raise ValueError(f"alpha must be [1] on {x.device}; got {list(alpha.shape)} on {alpha.device}")
