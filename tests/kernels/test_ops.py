"""The torch operators: what PyTorch asks of an operator, gradients, and every way a program is compiled."""

import os

import pytest
import torch
from torch import nn

from hero_kernels import im3_blend, temporal_attention_im3
from hero_kernels.im3_blend.reference import im3_blend as blend_reference
from hero_kernels.temporal_attention_im3.reference import temporal_attention_im3 as attention_reference
from tests.kernels import paper

DEVICE = os.environ.get("HERO_KERNELS_DEVICE", "cpu")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def draw(*shape, dtype=torch.float32, count=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(DEVICE, dtype) for _ in range(count)]


def alpha(value=0.3, dtype=torch.float32):
    return torch.tensor([value], dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 16, 5, 80), (2, 2, 1, 16), (2, 15, 3, 48)], ids=str)
def test_attention_passes_opcheck(shape, dtype):
    q, k, v = draw(*shape, dtype=dtype)
    torch.library.opcheck(torch.ops.hero.temporal_attention_im3.default, (q, k, v, alpha(), 2))


def test_attention_passes_opcheck_with_gradients_and_strides():
    q, k, v = (x.transpose(1, 2).requires_grad_() for x in draw(2, 5, 16, 48))
    torch.library.opcheck(torch.ops.hero.temporal_attention_im3.default, (q, k, v, alpha().requires_grad_(), 2))


@pytest.mark.parametrize("residual", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_blend_passes_opcheck(dtype, residual):
    x, added, _ = draw(2, 16, 5, 48, dtype=dtype)
    x.requires_grad_()
    torch.library.opcheck(torch.ops.hero.im3_blend.default, (x, alpha().requires_grad_(), added if residual else None))


def test_gradients_are_right_in_float64_alpha_included():
    q, k, v = (x.double().requires_grad_() for x in draw(1, 5, 2, 8))
    a = alpha(0.3, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *args: temporal_attention_im3(*args, 2), (q, k, v, a))
    assert torch.autograd.gradcheck(im3_blend, (q, a))
    assert torch.autograd.gradcheck(im3_blend, (q, a, k))


def test_a_training_step_moves_alpha():
    q, k, v = draw(1, 16, 3, 32)
    a = alpha(0.0).requires_grad_()
    temporal_attention_im3(q, k, v, a, 2).square().sum().backward()
    assert a.grad.abs() > 1e-3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_operator_equals_the_papers_matrix_times_sdpa(dtype):
    q, k, v = draw(2, 16, 7, 320, dtype=dtype)
    want = paper.blend(paper.attention(*(x.cpu() for x in (q, k, v)), 8), torch.tensor(0.3).item())
    got = temporal_attention_im3(q, k, v, alpha(), 8).cpu().double()
    bound = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[dtype]
    assert (got - want).abs().max() / v.double().abs().max().cpu() < bound


class _Both(nn.Module):
    """Attention, then the blend with a residual: both operators in one program, alpha a parameter."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([0.3], device=DEVICE))

    def forward(self, q, k, v):
        return im3_blend(temporal_attention_im3(q, k, v, self.alpha, 2), self.alpha, q)


def expected(module, q, k, v):
    with torch.no_grad():
        return blend_reference(attention_reference(q, k, v, module.alpha, 2), module.alpha, q)


def test_export_keeps_the_operators_whole():
    module, inputs = _Both().eval(), tuple(draw(1, 16, 5, 48))
    program = torch.export.export(module, inputs)
    operators = {node.target for node in program.graph.nodes if node.op == "call_function"}
    assert {torch.ops.hero.temporal_attention_im3.default, torch.ops.hero.im3_blend.default} <= operators
    torch.testing.assert_close(program.module()(*inputs), expected(module, *inputs), rtol=1e-5, atol=1e-5)


def test_compile_takes_the_operators_without_a_graph_break():
    module, inputs = _Both(), draw(1, 16, 5, 48)
    compiled = torch.compile(module, fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), expected(module, *inputs), rtol=1e-5, atol=1e-5)
    compiled(*inputs).sum().backward()
    grad = module.alpha.grad.clone()
    module.alpha.grad = None
    module(*inputs).sum().backward()
    torch.testing.assert_close(grad, module.alpha.grad, rtol=1e-4, atol=1e-4)


def test_aotinductor_packages_a_program_that_runs_alone(tmp_path):
    module, inputs = _Both().eval(), tuple(draw(1, 16, 5, 48))
    with torch.no_grad():
        program = torch.export.export(module, inputs)
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "both.pt2"))
        got = torch._inductor.aoti_load_package(path)(*inputs)
    torch.testing.assert_close(got, expected(module, *inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(lambda q, a: (q, q[:, :4], q, a, 2), r"q, k, v must be equal \[B, F, S, C\]; got", id="k-shorter"),
        pytest.param(lambda q, a: (q, q.half(), q, a, 2), r"one type on one device; got torch.float32", id="k-half"),
        pytest.param(lambda q, a: (*[q[:, :1]] * 3, a, 2), r"F must be 2 or more: .* got F = 1", id="one-frame"),
        pytest.param(lambda q, a: (q, q, q, a, 5), r"C = 48 is not a multiple of num_heads = 5", id="heads"),
        pytest.param(lambda q, a: (q, q, q, a.expand(2), 2), r"alpha must be \[1\] on .*; got \[2\]", id="two-alphas"),
    ],
)
def test_attention_says_what_does_not_fit(arguments, message):
    (q,) = draw(1, 8, 3, 48, count=1)
    with pytest.raises(ValueError, match=message):
        temporal_attention_im3(*arguments(q, alpha()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(lambda x, a: (x[0], a), r"x must be \[B, F, S, C\] with F of 2 or more", id="three-axes"),
        pytest.param(lambda x, a: (x[:, :1], a), r"F of 2 or more; got \[1, 1, 3, 48\]", id="one-frame"),
        pytest.param(lambda x, a: (x, a, x.half()), r"residual must equal x .* got .* torch.float16", id="residual"),
        pytest.param(lambda x, a: (x, a[0]), r"alpha must be \[1\] on .*; got \[\]", id="alpha"),
    ],
)
def test_blend_says_what_does_not_fit(arguments, message):
    (x,) = draw(1, 8, 3, 48, count=1)
    with pytest.raises(ValueError, match=message):
        im3_blend(*arguments(x, alpha()))
