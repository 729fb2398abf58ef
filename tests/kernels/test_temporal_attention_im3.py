"""The fused attention against its reference, against SDPA in float64, and against the paper's dense M_I."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hero_kernels.temporal_attention_im3.reference import temporal_attention_im3 as reference
from tests.kernels import paper

# largest error allowed, relative to the largest value of v: the FP32 sums, or the rounding of P and of the result
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
DTYPES = [pytest.param(dtype, id=str(dtype).removeprefix("torch.")) for dtype in TOLERANCE]
LEVELS = [  # heads, head width, spatial tokens: hero-sd15 at 256 px, and hero-tiny
    pytest.param(8, 40, 33, id="sd15-C320"),
    pytest.param(8, 80, 9, id="sd15-C640"),
    pytest.param(8, 160, 5, id="sd15-C1280"),
    pytest.param(2, 16, 7, id="tiny-C32"),
    pytest.param(2, 24, 5, id="tiny-C48"),
]


def qkv(batch, frames, tokens, heads, head_dim, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, frames, tokens, heads * head_dim)
    return [torch.randn(shape, generator=generator).to(dtype) for _ in range(3)]


def error(got, want, v):
    assert got.shape == want.shape
    return ((got.double() - want.double()).abs().max() / v.double().abs().max()).item()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("frames", [2, 8, 15, 16, 24, 32])
def test_equals_reference_at_every_length_and_alpha(fused_attention, frames, alpha):
    q, k, v = qkv(2, frames, 5, 3, 8)
    got = fused_attention(q, k, v, torch.tensor([alpha]), 3)
    assert error(got, reference(q, k, v, torch.tensor([alpha]), 3), v) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frames", [2, 8, 15, 16, 24, 32])
@pytest.mark.parametrize("head_dim", [8, 40, 64, 80, 160])
def test_equals_reference_at_every_head_width_and_type(fused_attention, head_dim, frames, dtype):
    q, k, v = qkv(1, frames, 3, 2, head_dim, dtype)
    alpha = torch.tensor([0.3])
    got = fused_attention(q, k, v, alpha, 2)
    assert got.dtype == dtype
    assert error(got, reference(q.float(), k.float(), v.float(), alpha, 2), v) < TOLERANCE[dtype]


@pytest.mark.parametrize(("heads", "head_dim", "tokens"), LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_papers_matrix_times_sdpa_in_float64(fused_attention, heads, head_dim, tokens, dtype):
    q, k, v = qkv(2, 16, tokens, heads, head_dim, dtype)
    want = paper.blend(paper.attention(q, k, v, heads), 0.3)
    assert error(fused_attention(q, k, v, torch.tensor([0.3]), heads), want, v) < TOLERANCE[dtype]


@pytest.mark.parametrize(("heads", "head_dim", "tokens"), LEVELS)
def test_equals_sdpa_in_float64_when_alpha_is_zero(fused_attention, heads, head_dim, tokens):
    q, k, v = qkv(1, 16, tokens, heads, head_dim)
    want = paper.attention(q, k, v, heads)
    assert error(fused_attention(q, k, v, torch.zeros(1), heads), want, v) < TOLERANCE[torch.float32]
    # and alpha is not ignored
    assert error(fused_attention(q, k, v, torch.tensor([0.3]), heads), want, v) > 1e-2


def test_reference_equals_the_papers_matrix_times_sdpa():
    q, k, v = (x.double() for x in qkv(2, 16, 5, 8, 40))
    want = paper.blend(paper.attention(q, k, v, 8), 0.3)
    assert error(reference(q, k, v, torch.tensor([0.3], dtype=torch.float64), 8), want, v) < 1e-13


@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 8, 31, 63, 65])
@pytest.mark.parametrize("frames", [15, 16])
def test_every_element_is_written_and_nothing_else(fused_attention, frames, tokens):
    q, k, v = qkv(2, frames, tokens, 3, 24)
    out = torch.full_like(q, float("nan"))
    got = fused_attention(q, k, v, torch.tensor([0.3]), 3, out=out)
    assert got.isfinite().all()
    assert error(got, reference(q, k, v, torch.tensor([0.3]), 3), v) < TOLERANCE[torch.float32]


def test_padding_frames_and_tokens_are_never_read(fused_attention):
    """Frames and tokens around the tile hold NaN; a view selects what is between."""
    frames, tokens = 15, 5
    padded = [torch.full((2, frames + 4, tokens + 4, 48), float("nan")) for _ in range(3)]
    views = [x[:, 2:-2, 2:-2] for x in padded]
    for view, value in zip(views, qkv(2, frames, tokens, 2, 24), strict=True):
        view.copy_(value)
    got = fused_attention(*views, torch.tensor([0.3]), 2)
    want = reference(*(x.contiguous() for x in views), torch.tensor([0.3]), 2)
    assert error(got, want, views[2]) < TOLERANCE[torch.float32]


def _packed(q, k, v):
    return torch.cat([q, k, v], dim=-1).chunk(3, dim=-1)


def _tokens_first(q, k, v):
    return [x.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3) for x in (q, k, v)]


def _channels_strided(q, k, v):
    return [torch.stack([x, x], dim=-1)[..., 0] for x in (q, k, v)]


def _expanded_batch(q, k, v):
    return [x[:1].expand(2, -1, -1, -1) for x in (q, k, v)]


@pytest.mark.parametrize("layout", [_packed, _tokens_first, _channels_strided, _expanded_batch])
def test_strides_are_honoured(fused_attention, layout):
    strided = layout(*qkv(2, 16, 7, 2, 40))
    assert not all(x.is_contiguous() for x in strided)
    want = reference(*(x.contiguous() for x in strided), torch.tensor([0.3]), 2)
    assert error(fused_attention(*strided, torch.tensor([0.3]), 2), want, strided[2]) < TOLERANCE[torch.float32]


def test_large_scores_stay_finite_in_half_precision(fused_attention):
    """q kᵀ is 400 · 400 · 40, far past FP16's 65,504; the softmax is then one-hot."""
    q, k, v = qkv(1, 16, 2, 2, 40, torch.float16)
    q, k = torch.full_like(q, 400.0), torch.full_like(k, 400.0)
    k[:, 1:] = -400.0
    got = fused_attention(q, k, v, torch.zeros(1), 2)
    assert torch.equal(got, v[:, :1].expand_as(v))


@settings(max_examples=30)
@given(
    batch=st.integers(1, 3), frames=st.integers(2, 32), tokens=st.integers(1, 20), heads=st.integers(1, 9),
    eighths=st.integers(1, 20), alpha=st.floats(-0.5, 1.5), dtype=st.sampled_from(list(TOLERANCE)), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_the_paper_on_drawn_shapes(fused_attention, batch, frames, tokens, heads, eighths, alpha, dtype, seed):
    q, k, v = qkv(batch, frames, tokens, heads, 8 * eighths, dtype, seed)
    want = paper.blend(paper.attention(q, k, v, heads), torch.tensor(alpha).item())
    amplification = 1 + 4 * abs(alpha)  # |alpha| + |1 - 2 alpha| + |alpha|, at most
    got = fused_attention(q, k, v, torch.tensor([alpha]), heads)
    assert error(got, want, v) < TOLERANCE[dtype] * amplification


def test_every_listed_configuration_agrees(fused_attention):
    triton = pytest.importorskip("hero_kernels.temporal_attention_im3.triton")
    q, k, v = qkv(1, 16, 5, 2, 40)
    want = reference(q, k, v, torch.tensor([0.3]), 2)
    assert len(set(triton.CONFIGS)) == len(triton.CONFIGS) >= 8
    for config in triton.CONFIGS:
        assert error(fused_attention(q, k, v, torch.tensor([0.3]), 2, config=config), want, v) < 2e-6


PRESET_LEVELS = [(8, 40), (8, 80), (8, 160), (2, 16), (2, 24)]


def test_the_default_configuration_is_a_rule_over_listed_configurations():
    triton = pytest.importorskip("hero_kernels.temporal_attention_im3.triton")
    for _, head_dim in PRESET_LEVELS:
        for itemsize in (2, 4):
            config = triton.default_config(16, head_dim, itemsize)
            assert config in triton.CONFIGS
            assert config == triton.default_config(16, head_dim, itemsize)
            assert -(-head_dim // config.channels) * config.channels - head_dim < 16  # less than one tile of padding


@pytest.mark.parametrize(
    ("batch", "tokens", "heads", "head_dim"),
    [
        pytest.param(1, 32 * 32, 8, 40, id="256px"),
        pytest.param(2, 64 * 64, 8, 40, id="512px-cfg"),
        pytest.param(70_000, 64, 8, 40, id="B-over-65535"),
        pytest.param(1, 1 << 20, 8, 40, id="S-over-65535"),
        pytest.param(3, 7, 2, 24, id="ragged"),
    ],
)
def test_the_grid_is_one_axis_and_covers_every_pair_once(batch, tokens, heads, head_dim):
    triton = pytest.importorskip("hero_kernels.temporal_attention_im3.triton")
    config = triton.default_config(16, head_dim, 2)
    programs = triton.grid(batch, tokens, heads, config)
    assert len(programs) == 1
    assert programs[0] < 2**31
    a_row = programs[0] // batch
    assert a_row * batch == programs[0]
    assert (a_row - 1) * config.pairs < tokens * heads <= a_row * config.pairs
