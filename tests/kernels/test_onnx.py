"""The ONNX form: one node whose function ONNX Runtime runs, equal to SDPA and the paper's M_I in float64."""

import onnx
import onnxruntime
import onnxscript
import pytest
import torch
from torch import nn

from hero_kernels import im3_blend, temporal_attention_im3
from hero_kernels.onnx import TRANSLATIONS, add_functions
from tests.kernels import paper


class _Attention(nn.Module):
    def __init__(self, alpha):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([alpha]))

    def forward(self, q, k, v):
        return temporal_attention_im3(q, k, v, self.alpha, 8)


class _Blend(_Attention):
    def forward(self, x, residual):
        return im3_blend(x, self.alpha, residual)


def export(module, inputs, path):
    with torch.no_grad():
        program = torch.onnx.export(
            torch.export.export(module, inputs), dynamo=True, optimize=False, opset_version=21,
            custom_translation_table=TRANSLATIONS, verbose=False,
        )  # fmt: skip
    add_functions(program.model)
    onnxscript.ir.save(program.model, path)
    onnx.checker.check_model(path)
    return onnx.load(path)


def run(path, *inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {given.name: x.numpy() for given, x in zip(session.get_inputs(), inputs, strict=True)}
    return torch.from_numpy(session.run(None, feeds)[0])


def draw(count, *shape, dtype):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator).to(dtype) for _ in range(count))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.float16, 2e-3)], ids=["float32", "float16"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("frames", [2, 15, 16])
def test_onnx_runtime_runs_the_node_through_its_function(tmp_path, frames, alpha, dtype, bound):
    q, k, v = draw(3, 2, frames, 7, 320, dtype=dtype)
    model = export(_Attention(alpha), (q, k, v), tmp_path / "attention.onnx")
    (node,) = (node for node in model.graph.node if node.domain == "hero")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert attributes == {"num_heads": 8, "plugin_namespace": b"hero", "plugin_version": b"1"}
    assert [f.name for f in model.functions] == ["TemporalAttentionIM3"]
    got = run(tmp_path / "attention.onnx", q, k, v)
    want = paper.blend(paper.attention(q, k, v, 8), torch.tensor(alpha).item())
    assert got.dtype == dtype
    assert (got.double() - want).abs().max() / v.double().abs().max() < bound


def test_the_blend_is_standard_operators(tmp_path):
    x, residual = draw(2, 2, 16, 7, 48, dtype=torch.float32)
    model = export(_Blend(0.3), (x, residual), tmp_path / "blend.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    want = paper.blend(x, torch.tensor(0.3).item()) + residual.double()
    assert (run(tmp_path / "blend.onnx", x, residual).double() - want).abs().max() < 1e-6
