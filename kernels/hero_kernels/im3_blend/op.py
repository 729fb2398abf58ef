"""`hero::im3_blend` as a torch operator: eager, torch.export, torch.compile, AOTInductor."""

import torch
from torch import Tensor

from hero_kernels.im3_blend.reference import im3_blend as reference


@torch.library.triton_op("hero::im3_blend", mutates_args={})
def _im3_blend(x: Tensor, alpha: Tensor, residual: Tensor | None = None) -> Tensor:
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
    """M_I(alpha) x over frames, plus `residual`; shapes and meaning as in `reference.im3_blend`."""
    return torch.ops.hero.im3_blend(x, alpha, residual)
