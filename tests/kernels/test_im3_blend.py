"""The blend against the paper's dense M_I, with and without a residual."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hero_kernels.im3_blend.reference import im3_blend as reference
from tests.kernels import paper

TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def close(got, want, dtype, scale=1.0):
    assert got.dtype == dtype
    return ((got.double() - want).abs().max() / want.abs().max()).item() < TOLERANCE[dtype] * scale


def draw(shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_the_papers_matrix_is_written_out():
    want = [[1, 0, 0, 0], [0.25, 0.5, 0.25, 0], [0, 0.25, 0.5, 0.25], [0, 0, 0, 1]]
    assert paper.blend_matrix(0.25, 4).tolist() == want


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("frames", [2, 3, 8, 15, 16, 24, 32])
@pytest.mark.parametrize("residual", [pytest.param(False, id="alone"), pytest.param(True, id="residual")])
def test_fused_and_reference_equal_the_dense_matrix_product(fused_blend, frames, alpha, residual):
    x = draw((2, frames, 5, 48))
    added = draw(x.shape, seed=1) if residual else None
    want = paper.blend(x, torch.tensor(alpha).item()) + (added.double() if residual else 0)
    for blend in (fused_blend, reference):
        assert close(blend(x, torch.tensor([alpha]), added), want, torch.float32)


@pytest.mark.parametrize("dtype", [pytest.param(d, id=str(d).removeprefix("torch.")) for d in TOLERANCE])
@pytest.mark.parametrize(("tokens", "channels"), [(33, 320), (7, 48), (1, 8), (5, 1280)])
def test_types_and_ragged_sizes_fill_the_whole_output(fused_blend, dtype, tokens, channels):
    x, residual = draw((2, 16, tokens, channels), dtype), draw((2, 16, tokens, channels), dtype, 1)
    out = torch.full_like(x, float("nan"))
    got = fused_blend(x, torch.tensor([0.3]), residual, out=out)
    assert close(got, paper.blend(x, torch.tensor(0.3).item()) + residual.double(), dtype)


def test_strides_are_honoured(fused_blend):
    x = draw((2, 7, 16, 48)).transpose(1, 2)  # [B, F, S, C], tokens first in memory
    residual = draw((2, 16, 7, 96), seed=1)[..., 48:]
    want = paper.blend(x, torch.tensor(0.3).item()) + residual.double()
    assert close(fused_blend(x, torch.tensor([0.3]), residual), want, torch.float32)
    assert close(fused_blend(x[..., ::2], torch.tensor([0.3]), residual[..., ::2]), want[..., ::2], torch.float32)


def test_a_transposed_feature_map_is_added_in_place(fused_blend):
    """What the motion module hands over: [B·F, C, h·w] seen as tokens."""
    x, residual = draw((2, 16, 35, 40)), draw((2, 16, 40, 35), seed=1).transpose(2, 3)
    want = paper.blend(x, torch.tensor(0.3).item()) + residual.double()
    assert close(fused_blend(x, torch.tensor([0.3]), residual), want, torch.float32)


@settings(max_examples=25)
@given(
    batch=st.integers(1, 3), frames=st.integers(2, 32), tokens=st.integers(1, 40), channels=st.integers(1, 100),
    alpha=st.floats(-0.5, 1.5), dtype=st.sampled_from(list(TOLERANCE)), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_paper_on_drawn_shapes(fused_blend, batch, frames, tokens, channels, alpha, dtype, seed):
    x = draw((batch, frames, tokens, channels), dtype, seed)
    want = paper.blend(x, torch.tensor(alpha).item())
    assert close(fused_blend(x, torch.tensor([alpha])), want, dtype, scale=4)


@pytest.mark.parametrize(
    ("batch", "tokens", "channels"),
    [
        pytest.param(2, 64 * 64, 320, id="512px-cfg"),
        pytest.param(70_000, 16, 320, id="B-over-65535"),
        pytest.param(1, 1 << 20, 320, id="S-over-65535"),
        pytest.param(3, 33, 5, id="ragged"),
    ],
)
def test_the_grid_is_one_axis_and_covers_every_column_once(batch, tokens, channels):
    triton = pytest.importorskip("hero_kernels.im3_blend.triton")
    programs = triton.grid(batch, tokens, channels)
    down, across = -(-tokens // triton.TOKENS), -(-channels // triton.CHANNELS)
    assert programs == (batch * down * across,)
    assert programs[0] < 2**31
