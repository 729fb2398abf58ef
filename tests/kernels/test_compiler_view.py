"""What a compiler sees on CUDA, traced with fake tensors: the Triton kernels, and that each writes its output alone."""

import pytest
import torch
from torch import nn
from torch._functorch.aot_autograd import aot_export_module
from torch._subclasses.fake_tensor import FakeTensorMode

from hero_kernels import im3_blend, temporal_attention_im3

triton = pytest.importorskip("triton")


class _Both(nn.Module):
    def forward(self, q, k, v, alpha):
        return (im3_blend(temporal_attention_im3(q, k, v, alpha, 8), alpha, q),)


class _Sm90:
    """All that the compiler asks of a driver when it looks for what a kernel writes."""

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def trace(monkeypatch):
    """trace(shape, dtype): the functional graph's operators, and how many of its inputs it believes are written."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(triton.runtime.driver, "_active", _Sm90())

    def traced(shape, dtype):
        with FakeTensorMode(), torch.no_grad():
            inputs = [torch.empty(shape, device="cuda", dtype=dtype) for _ in range(3)]
            inputs.append(torch.empty(1, device="cuda"))
            graph, signature = aot_export_module(_Both(), inputs, trace_joint=False)
        operators = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
        return operators, len(signature.user_inputs_to_mutate)

    return traced


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(1, 16, 64, 320), (2, 15, 7, 1280)], ids=str)
def test_cuda_tensors_reach_the_fused_kernels_and_no_input_is_written(trace, shape, dtype):
    operators, written = trace(shape, dtype)
    assert [name for name in operators if "triton" in name] == ["triton_kernel_wrapper_functional"] * 2
    assert not [name for name in operators if "scaled_dot_product" in name or "copy" in name or "clone" in name]
    assert written == 0


def _compile(kernel, pointers: dict[str, str], fixed: dict[str, int | bool]):
    """For SM 9.0, with no GPU; arguments that are neither pointers nor fixed are 32-bit integers."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: pointers.get(name, "constexpr" if name in fixed else "i32") for name in kernel.arg_names}
    return triton.compile(ASTSource(kernel, signature, fixed), target=GPUTarget("cuda", 90, 32))


# what a launch makes a constant of, and the interpreter does not: an integer argument that is 1
ONES = [
    pytest.param([], id="none"),
    pytest.param(["tokens"], id="one-token"),
    pytest.param(["q_token", "k_token", "v_token", "q_frame", "x_token", "x_frame"], id="strides"),
]


@pytest.mark.parametrize("ones", ONES)
def test_the_fused_attention_compiles_whatever_argument_is_1(ones):
    from hero_kernels.temporal_attention_im3 import triton as fused

    kernel = fused.temporal_attention_im3_kernel
    pointers = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "o_ptr"), "*fp16") | {"alpha_ptr": "*fp32"}
    fixed = fused.constants(16, 8, 40, fused.default_config(16, 40, 2))
    fixed |= {name: 1 for name in ones if name in kernel.arg_names}
    assert "mma" in _compile(kernel, pointers, fixed).asm["ptx"]


@pytest.mark.parametrize("ones", ONES)
def test_the_fused_blend_compiles_whatever_argument_is_1(ones):
    from hero_kernels.im3_blend import triton as fused

    kernel = fused.im3_blend_kernel
    pointers = dict.fromkeys(("x_ptr", "residual_ptr", "y_ptr"), "*fp16") | {"alpha_ptr": "*fp32"}
    fixed = {"FRAMES": 16, "TOKENS": fused.TOKENS, "CHANNELS": fused.CHANNELS, "HAS_RESIDUAL": True, "x_channel": 1}
    fixed |= {name: 1 for name in ones if name in kernel.arg_names}
    assert "st.global" in _compile(kernel, pointers, fixed).asm["ptx"]


@pytest.mark.parametrize(
    ("shape", "dtype", "taken"),
    [
        pytest.param((1, 16, 64, 320), torch.float16, True, id="d40"),
        pytest.param((1, 32, 64, 8 * 160), torch.float32, True, id="F32-d160"),
        pytest.param((1, 16, 64, 320), torch.float64, False, id="float64"),
        pytest.param((1, 16, 64, 96), torch.float16, False, id="d12"),
        pytest.param((1, 33, 64, 320), torch.float16, False, id="F33"),
        pytest.param((1, 16, 64, 8 * 168), torch.float16, False, id="d168"),
    ],
)
def test_what_the_fused_attention_takes(shape, dtype, taken):
    from hero_kernels.temporal_attention_im3.triton import fits

    assert fits(torch.empty(shape, dtype=dtype, device="meta"), 8) == taken
