"""Translates operators whose ONNX form depends on the reader of the graph: TensorRT or ONNX Runtime.

TensorRT recognises an attention in standard operators. ONNX Runtime does not: it writes every score matrix to memory
and reads it back. It has a kernel that avoids this, under a name in its own domain. It uses the kernel even if the
graph has a function of that name. So the node has its definition as a function, and other tools run the function. ONNX
Runtime has no kernel for GroupNormalization: it computes the ten operators of the definition one by one.
"""

from collections.abc import Callable
from typing import Any

import onnx
import onnxscript
import torch
from onnxscript import opset21 as op

from hero_rt.errors import UsageError

DOMAIN = "com.microsoft"
_OPSET = onnxscript.values.Opset(DOMAIN, 1)
_FP32, _FP16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


@onnxscript.script(_OPSET)
def MultiHeadAttention(query, key, value, num_heads: int, scale: float):
    """Define ONNX Runtime's operator as far as HERO needs it. query: [R, S, C]; key, value: [R, L, C]."""
    heads = op.Reshape(op.Constant(value_int=num_heads), op.Constant(value_ints=[1]))
    split = op.Concat(op.Constant(value_ints=[0, 0]), heads, op.Constant(value_ints=[-1]), axis=0)
    q = op.Transpose(op.Reshape(query, split), perm=[0, 2, 1, 3])  # [R, H, S, d]
    k = op.Transpose(op.Reshape(key, split), perm=[0, 2, 3, 1])
    v = op.Transpose(op.Reshape(value, split), perm=[0, 2, 1, 3])
    # scaled before the product: q kᵀ itself can leave FP16's range
    scores = op.MatMul(op.Mul(q, op.CastLike(op.Constant(value_float=scale), q)), k)
    out = op.MatMul(op.CastLike(op.Softmax(op.Cast(scores, to=1), axis=-1), v), v)
    return op.Reshape(op.Transpose(out, perm=[0, 2, 1, 3]), op.Shape(query))


def translations(for_onnxruntime: bool) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translations for torch's exporter. The exporter translates GroupNormalization itself."""
    if not for_onnxruntime:
        return {torch.ops.aten.scaled_dot_product_attention.default: _composed_attention}
    return {
        torch.ops.aten.scaled_dot_product_attention.default: _fused_attention,
        torch.ops.aten.group_norm.default: _group_norm,
    }


def _composed_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """Write attention with the softmax in FP32. query, key, value: [..., heads, tokens, d]."""
    _check(attn_mask, is_causal, enable_gqa)
    scale = scale if scale is not None else query.shape[-1] ** -0.5
    # scaled before the product: q kᵀ itself can leave FP16's range
    scores = op.MatMul(
        op.Mul(query, op.CastLike(op.Constant(value_float=scale), query)),
        op.Transpose(key, perm=[*range(len(key.shape) - 2), len(key.shape) - 1, len(key.shape) - 2]),
    )
    if query.dtype == _FP16:
        return op.MatMul(op.Cast(op.Softmax(op.Cast(scores, to=_FP32), axis=-1), to=_FP16), value)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _fused_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Write ONNX Runtime's operator. query, key, value: [R, heads, tokens, d]. Its transposes cancel with PyTorch's."""
    _check(attn_mask, is_causal, enable_gqa)
    heads, width = query.shape[1], query.shape[-1]
    joined = op.Constant(value_ints=[0, 0, heads * width])
    rows = [op.Reshape(op.Transpose(x, perm=[0, 2, 1, 3]), joined) for x in (query, key, value)]
    scale = scale if scale is not None else width**-0.5
    out = op.Reshape(_node(*rows, num_heads=heads, scale=scale), op.Constant(value_ints=[0, 0, heads, width]))
    return op.Transpose(out, perm=[0, 2, 1, 3])


def _check(attn_mask: object, is_causal: bool, enable_gqa: bool) -> None:
    if attn_mask is not None or is_causal or enable_gqa:
        raise UsageError("attention with a mask, causal or grouped: not in HERO's graphs, and not translated")


def _group_norm(x, num_groups, weight, bias, eps=1e-5, cudnn_enabled=True):
    """Write a group norm of x, [N, C, *]: an instance norm of groups in FP32, its definition with FP32 sums in FP16."""
    if x.dtype != _FP32:
        return op.GroupNormalization(x, weight, bias, num_groups=num_groups, epsilon=eps)
    ones, zeros = (op.Constant(value_floats=[value] * num_groups) for value in (1.0, 0.0))
    groups = op.Reshape(x, op.Constant(value_ints=[0, num_groups, -1]))
    normed = op.Reshape(op.InstanceNormalization(groups, ones, zeros, epsilon=eps), op.Shape(x))
    per_channel = op.Constant(value_ints=[-1, *[1] * (len(x.shape) - 2)])
    return op.Add(op.Mul(normed, op.Reshape(weight, per_channel)), op.Reshape(bias, per_channel))


_Attribute, _Type = onnx.defs.OpSchema.Attribute, onnx.defs.OpSchema.AttrType
_SCHEMA = onnx.defs.OpSchema(
    "MultiHeadAttention",
    DOMAIN,
    1,
    inputs=[onnx.defs.OpSchema.FormalParameter(name, "T") for name in ("query", "key", "value")],
    outputs=[onnx.defs.OpSchema.FormalParameter("output", "T")],
    type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "activations")],
    attributes=[_Attribute("num_heads", _Type.INT, "heads"), _Attribute("scale", _Type.FLOAT, "of the scores")],
)
_node = onnxscript.values.Op(_OPSET, "MultiHeadAttention", _SCHEMA)
