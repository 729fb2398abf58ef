"""IM³: where it is placed, what it leaves alone, and that frames have an order."""

import pytest
import torch

from hero_rt.models.attention import AttentionConstants
from hero_rt.models.motion import MotionModule, fuse_temporal_projections, sinusoidal_positions

FRAMES, CHANNELS = 6, 16


def blend_matrix(frames: int, alpha: float) -> torch.Tensor:
    """M_I of HERO Eq. 2: rows (alpha, 1 - 2·alpha, alpha), the first and last frame kept."""
    matrix = torch.zeros(frames, frames, dtype=torch.float64)
    matrix[0, 0] = matrix[-1, -1] = 1
    for row in range(1, frames - 1):
        matrix[row, row - 1 : row + 2] = torch.tensor([alpha, 1 - 2 * alpha, alpha], dtype=torch.float64)
    return matrix


def module(placement: str, alpha: float) -> MotionModule:
    torch.manual_seed(0)
    made = MotionModule(CHANNELS, 2, 4, placement).double()
    torch.nn.init.normal_(made.proj_out.weight, std=0.3)
    torch.nn.init.normal_(made.proj_out.bias)
    torch.nn.init.constant_(made.im3_alpha, alpha)
    return made.requires_grad_(False)


@pytest.mark.parametrize("placement", ["module", "output"])
def test_blend_outside_the_block_is_the_matrix_product(placement):
    x = torch.randn(2 * FRAMES, CHANNELS, 3, 2, dtype=torch.float64)
    plain = module("attention", 0.0)(x, FRAMES).unflatten(0, (2, FRAMES))
    clips = x.unflatten(0, (2, FRAMES))
    matrix = blend_matrix(FRAMES, 0.3)
    if placement == "module":
        want = torch.einsum("fg,bgchw->bfchw", matrix, plain - clips) + clips
    else:
        want = torch.einsum("fg,bgchw->bfchw", matrix, plain)

    got = module(placement, 0.3)(x, FRAMES)

    torch.testing.assert_close(got, want.flatten(0, 1), rtol=1e-6, atol=1e-6)


def test_attention_placement_equals_blending_after_the_output_projection():
    """Exact for any place between the softmax and the residual: M_I acts on frames, to_out on channels."""
    made = module("attention", 0.3)
    attention = made.transformer_blocks[0].attn1
    x = torch.randn(2 * FRAMES, 5, CHANNELS, dtype=torch.float64)
    unblended = attention(x, torch.zeros(1), FRAMES)

    got = attention(x, torch.tensor([0.3]), FRAMES)

    want = torch.einsum("fg,bgsc->bfsc", blend_matrix(FRAMES, 0.3), unblended.unflatten(0, (2, FRAMES)))
    torch.testing.assert_close(got, want.flatten(0, 1), rtol=1e-6, atol=1e-6)
    assert (got - unblended).abs().max() > 1e-2


def test_one_product_for_queries_keys_and_values_gives_the_same_tokens():
    made = module("attention", 0.3)
    x = torch.randn(2 * FRAMES, CHANNELS, 3, 2, dtype=torch.float64)
    want = made(x, FRAMES)
    fuse_temporal_projections(made)
    names = {name for name, _ in made.named_parameters() if ".attn1." in name}
    assert {name.split(".attn1.")[1] for name in names} == {"to_qkv.weight", "to_out.0.weight", "to_out.0.bias"}
    torch.testing.assert_close(made(x, FRAMES), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("placement", ["attention", "module", "output"])
def test_nothing_is_computed_on_four_axes_but_by_the_operators_and_the_norm(placement):
    """The compiler takes what has four axes and leads to a convolution for an image, and lays it out frames adjacent."""
    x = torch.randn(2 * FRAMES, CHANNELS, 3, 2, dtype=torch.float64)
    program = torch.export.export(module(placement, 0.3).eval(), (x, FRAMES)).run_decompositions({})
    views = {"view", "unsqueeze", "permute", "transpose", "_unsafe_view", "clone"}
    computed = {
        node.target.__name__.partition(".")[0]
        for node in program.graph.nodes
        if node.op == "call_function" and getattr(node.meta.get("val"), "ndim", 0) == 4
    }
    assert computed - views <= {"native_group_norm", "temporal_attention_im3", "im3_blend", "group_norm"}
    assert "temporal_attention_im3" in computed


def test_positions_are_the_published_sinusoid():
    """Vaswani et al.: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same."""
    positions = sinusoidal_positions(32, 8)
    for position, channel in [(0, 0), (1, 0), (7, 3), (31, 6)]:
        angle = torch.tensor(position / 10000 ** (channel // 2 * 2 / 8))
        assert positions[position, channel] == pytest.approx(float(angle.sin() if channel % 2 == 0 else angle.cos()))


@pytest.mark.parametrize("part", ["unet", "refnet", "flow_encoder"])
def test_networks_are_not_equivariant_to_the_order_of_frames_and_alpha_matters(tiny, part):
    """Two silent breakages: temporal layers that see no order, and a blend that is never applied."""
    frames, network = 6, tiny[part]
    width = tiny.config.cross_attention_dim
    torch.manual_seed(1)
    clip, openclip = torch.randn(frames, 1, width), torch.randn(frames, 4, width)
    if part == "flow_encoder":
        inputs = torch.randn(frames, 3, 64, 64)
    else:
        inputs = torch.randn(frames, 9 if part == "unet" else 4, 8, 8)

    def outputs(order: torch.Tensor) -> torch.Tensor:
        x, tokens = inputs[order], (clip[order], openclip[order])
        if part == "unet":
            reads = [AttentionConstants(*read) for read in network.project_semantic(*tokens)]
            return network(x[:, :4], torch.tensor([400.0]), x[:, 4:], reads, [], frames)
        return network(x, *tokens, torch.zeros(1), frames)[-1]

    forward, order = torch.arange(frames), torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        plain, permuted = outputs(forward), outputs(order)
        assert (permuted - plain[order]).norm() / plain.norm() > 1e-3
        alphas = [m.im3_alpha for m in network.modules() if isinstance(m, MotionModule)]
        kept = [alpha.clone() for alpha in alphas]
        try:
            for alpha in alphas:
                alpha.zero_()
            assert (outputs(forward) - plain).norm() / plain.norm() > 1e-3
        finally:
            for alpha, value in zip(alphas, kept, strict=True):
                alpha.copy_(value)
