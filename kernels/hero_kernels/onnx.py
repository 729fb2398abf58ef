"""The operators in ONNX, for torch's exporter: a node of the `hero` domain with a model-local function body.

    program = torch.onnx.export(exported, dynamo=True, optimize=False, custom_translation_table=TRANSLATIONS)
    onnxscript.optimizer.optimize(program.model)
    add_functions(program.model)    # after the passes: torch's and onnxscript's inline every function they see

A runtime without a `TemporalAttentionIM3` runs the body. TensorRT uses the plugin of that name if it is registered.
TensorRT finds functions by op_type alone, so the name is globally unique.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import onnx
import onnxscript
import torch
from onnxscript import opset20 as op

from hero_kernels.im3_blend import op as _im3_blend_op  # noqa: F401  (registers torch.ops.hero.*)
from hero_kernels.temporal_attention_im3 import op as _temporal_attention_op  # noqa: F401

DOMAIN = "hero"
OPSET = onnxscript.values.Opset(DOMAIN, 1)


@onnxscript.script(OPSET)
def TemporalAttentionIM3(q, k, v, alpha, num_heads: int, plugin_namespace: str, plugin_version: str):
    """Compute the operator on q, k, v: [B, F, S, C]. Softmax and blend are FP32, products have the input's type."""
    heads = op.Constant(value_int=num_heads)
    split = op.Concat(op.Constant(value_ints=[0, 0, 0]), op.Reshape(heads, [1]), op.Constant(value_ints=[-1]), axis=0)
    qh = op.Transpose(op.Reshape(q, split), perm=[0, 2, 3, 1, 4])  # [B, S, H, F, d]
    kh = op.Transpose(op.Reshape(k, split), perm=[0, 2, 3, 4, 1])  # [B, S, H, d, F]
    vh = op.Transpose(op.Reshape(v, split), perm=[0, 2, 3, 1, 4])
    width = op.Cast(op.Shape(qh, start=4, end=5), to=1)
    # scaled before the product: q kᵀ itself can leave FP16's range
    scores = op.MatMul(op.Mul(qh, op.CastLike(op.Reciprocal(op.Sqrt(width)), q)), kh)
    p = op.Softmax(op.Cast(scores, to=1), axis=-1)  # [B, S, H, F, F]
    axis = op.Constant(value_ints=[3])
    first = op.Slice(p, op.Constant(value_ints=[0]), op.Constant(value_ints=[1]), axis)
    last = op.Slice(p, op.Constant(value_ints=[-1]), op.Constant(value_ints=[2147483647]), axis)
    before = op.Slice(p, op.Constant(value_ints=[0]), op.Constant(value_ints=[-2]), axis)
    inner = op.Slice(p, op.Constant(value_ints=[1]), op.Constant(value_ints=[-1]), axis)
    after = op.Slice(p, op.Constant(value_ints=[2]), op.Constant(value_ints=[2147483647]), axis)
    kept = op.Sub(op.Constant(value_float=1.0), op.Add(alpha, alpha))
    blended = op.Concat(first, op.Add(op.Mul(op.Add(before, after), alpha), op.Mul(inner, kept)), last, axis=3)
    out = op.MatMul(op.CastLike(blended, v), vh)  # [B, S, H, F, d]
    return op.Reshape(op.Transpose(out, perm=[0, 3, 1, 2, 4]), op.Shape(q))


_SCHEMA = onnx.defs.OpSchema(
    "TemporalAttentionIM3", DOMAIN, 1,
    inputs=[*(onnx.defs.OpSchema.FormalParameter(name, "T") for name in "qkv"),
            onnx.defs.OpSchema.FormalParameter("alpha", "tensor(float)")],
    outputs=[onnx.defs.OpSchema.FormalParameter("o", "T")],
    type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "activations")],
    attributes=[
        onnx.defs.OpSchema.Attribute("num_heads", onnx.defs.OpSchema.AttrType.INT, "heads"),
        onnx.defs.OpSchema.Attribute("plugin_namespace", onnx.defs.OpSchema.AttrType.STRING, "for TensorRT"),
        onnx.defs.OpSchema.Attribute("plugin_version", onnx.defs.OpSchema.AttrType.STRING, "for TensorRT"),
    ],
)  # fmt: skip
_node = onnxscript.values.Op(OPSET, "TemporalAttentionIM3", _SCHEMA)


def _translate_attention(q, k, v, alpha, num_heads):
    return _node(q, k, v, alpha, num_heads=num_heads, plugin_namespace=DOMAIN, plugin_version="1")


def function_digest() -> str:
    """Return the SHA-256 of the function body that exported graphs contain."""
    return hashlib.sha256(TemporalAttentionIM3.to_function_proto().SerializeToString(deterministic=True)).hexdigest()


def add_functions(model: onnxscript.ir.Model, *others: onnxscript.OnnxFunction) -> None:
    """Add to the model the function bodies of its `hero` nodes and of its nodes of `others`."""
    for written in (TemporalAttentionIM3, *others):
        function = onnxscript.ir.serde.deserialize_function(written.to_function_proto())
        if any((node.domain, node.op_type) == (function.domain, function.name) for node in model.graph):
            # the checker requires one opset in the file; the function's operators are equal in every opset from 20 on
            function.opset_imports[""] = model.opset_imports[""]
            model.functions[function.identifier()] = function
            model.opset_imports[function.domain] = 1


def _translate_blend(x, alpha, residual=None):
    """Write M_I x as slices and sums of standard operators. It is limited by memory."""
    axis = op.Constant(value_ints=[1])
    wide = op.Cast(x, to=1)
    first = op.Slice(wide, op.Constant(value_ints=[0]), op.Constant(value_ints=[1]), axis)
    last = op.Slice(wide, op.Constant(value_ints=[-1]), op.Constant(value_ints=[2147483647]), axis)
    before = op.Slice(wide, op.Constant(value_ints=[0]), op.Constant(value_ints=[-2]), axis)
    inner = op.Slice(wide, op.Constant(value_ints=[1]), op.Constant(value_ints=[-1]), axis)
    after = op.Slice(wide, op.Constant(value_ints=[2]), op.Constant(value_ints=[2147483647]), axis)
    kept = op.Sub(op.Constant(value_float=1.0), op.Add(alpha, alpha))
    blended = op.Concat(first, op.Add(op.Mul(op.Add(before, after), alpha), op.Mul(inner, kept)), last, axis=1)
    if residual is not None:
        blended = op.Add(blended, op.Cast(residual, to=1))
    return op.CastLike(blended, x)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.hero.temporal_attention_im3.default: _translate_attention,
    torch.ops.hero.im3_blend.default: _translate_blend,
}
