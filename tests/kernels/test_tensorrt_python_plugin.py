"""The quickly-deployable plugin: what it registers, and the kernel and launch that it hands to TensorRT."""

import re
import subprocess
import sys

import pytest

from tests.kernels import tensorrt_stand_in as stand_in

pytest.importorskip("triton")


@pytest.fixture
def plugin(monkeypatch):
    from hero_kernels.temporal_attention_im3 import tensorrt as module

    seen = stand_in.install(monkeypatch)
    module.register.cache_clear()
    module.register()
    yield seen
    module.register.cache_clear()


def tensor(*shape, dtype="float16", static=True):
    return stand_in.TensorDesc(tuple(stand_in.SymInt32(n, static) for n in shape), dtype)


def test_it_registers_under_the_name_that_the_graph_carries(plugin):
    assert list(plugin.describe) == list(plugin.compiled) == ["hero::TemporalAttentionIM3"]


def test_the_output_is_as_q(plugin):
    q = tensor(2, 16, 1024, 320)
    assert plugin.describe["hero::TemporalAttentionIM3"](q, q, q, tensor(1, dtype="float32"), 8) == q


@pytest.mark.parametrize(
    ("dtype", "programs"),
    [pytest.param("float16", 2048, id="fp16-8-pairs"), pytest.param("float32", 4096, id="fp32-4-pairs")],
)
def test_kernel_and_launch_are_those_of_the_shape(plugin, dtype, programs):
    q = tensor(2, 16, 1024, 320, dtype=dtype)
    symbol, ptx, launch, scalars = plugin.compiled["hero::TemporalAttentionIM3"](
        q, q, q, tensor(1, dtype="float32"), 8, (q,), 0
    )
    text = ptx.decode()
    assert f".visible .entry {symbol}(" in text
    assert re.search(r"^\.target sm_80$", text, re.MULTILINE)
    assert re.search(r"^\.version 8\.0$", text, re.MULTILINE)
    # four tensors, the scalars, one tensor, and nothing hidden behind them
    assert len(re.findall(r"\.param \.\w+ [^\n]*_param_\d+[,\n]", text)) == 4 + len(scalars) + 1
    assert all(isinstance(value, stand_in.SymInt32) for value in scalars)
    strides = [16 * 1024 * 320, 1024 * 320, 320]
    assert [int(value) for value in scalars] == [1024, *strides * 3]
    assert (int(launch.grid_x), launch.grid_y, launch.grid_z) == (programs, 1, 1)
    assert launch.block_x == 128
    assert int(re.search(r"\.reqntid (\d+)", text)[1]) == 128


def test_dynamic_frames_are_refused(plugin):
    q = tensor(2, 16, 1024, 320, static=False)
    with pytest.raises(ValueError, match="frames and channels must be static"):
        plugin.compiled["hero::TemporalAttentionIM3"](q, q, q, tensor(1, dtype="float32"), 8, (q,), 0)


def test_importing_it_needs_no_tensorrt():
    program = "import sys, hero_kernels.temporal_attention_im3.tensorrt; print('tensorrt' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
