"""Operations and bytes against counts by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.roofline import FORMULAS, clip_work, submodule_work, work_of
from benchmarks.schema import Ceilings, Work
from hero_rt.models.attention import AttentionConstants, SpatialTransformer
from hero_rt.models.motion import MotionModule
from hero_rt.spec.profile import Profile

CEILINGS = Ceilings(dtype="fp32", flops_per_s=1e12, matmul_size=1, bytes_per_s=1e9, copy_bytes=1)


class WithFrames(torch.nn.Module):
    def __init__(self, module: MotionModule, frames: int):
        super().__init__()
        self.module, self.frames = module, frames

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x, self.frames)


class WithConstants(torch.nn.Module):
    def __init__(self, module: SpatialTransformer):
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor, *constants: torch.Tensor) -> torch.Tensor:
        return self.module(x, AttentionConstants(*constants))


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_motion_module_is_what_its_products_are_by_hand(device):
    batch, frames, height, width, channels = 2, 8, 3, 5, 32
    tokens = height * width
    rows = batch * frames * tokens
    with torch.device(device):
        module = WithFrames(MotionModule(channels, 2, 8, "attention"), frames)
        x = torch.zeros(batch * frames, channels, height, width)
    work = work_of(module, [x])
    # proj_in 1, twice q, k, v and out 4, GEGLU in 8 and out 4, proj_out 1: multiply-adds of C x C a token
    linear = 2 * rows * channels**2 * (1 + 2 * 4 + 8 + 4 + 1)
    attention = 2 * 4 * batch * tokens * frames**2 * channels
    assert work.flops == linear + attention

    # norm 2; proj_in, q, k, v, out twice, GEGLU, proj_out and their biases; three LayerNorms; alpha is a parameter
    weights = channels**2 * (1 + 2 * 4 + 8 + 4 + 1) + channels * (2 + 1 + 2 * 1 + 8 + 1 + 1 + 3 * 2) + 1
    assert work.bytes == 4 * (weights + 2 * x.numel())


def test_without_a_formula_the_operator_counts_as_nothing():
    q = torch.zeros(1, 4, 3, 8)
    alpha = torch.zeros(1)

    def count(formulas):
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
            torch.ops.hero.temporal_attention_im3(q, q, q, alpha, 2)
        return counter.get_total_flops()

    assert count({}) == 0
    assert count(FORMULAS) == 2 * (2 * 3 * 4 * 4 * 8)  # two products, S F F C multiply-adds each


def test_a_spatial_block_is_what_its_products_are_by_hand():
    rows, side, channels, context, openclip = 3, 4, 32, 24, 4
    tokens = side * side
    shapes = [(rows, 1, channels), *[(rows, openclip, channels)] * 2, *[(rows, tokens, channels)] * 2]
    with torch.device("meta"):
        module = WithConstants(SpatialTransformer(channels, 2, context, 8))
        inputs = [torch.zeros(rows, channels, side, side), *(torch.zeros(shape) for shape in shapes)]
    work = work_of(module, inputs)
    # proj_in 1, attn1 q, k, v, out 4, attn2 q and out 2, GEGLU 8 + 4, proj_out 1
    linear = 2 * rows * tokens * channels**2 * (1 + 4 + 2 + 8 + 4 + 1)
    self_attention = 2 * 2 * rows * tokens * (2 * tokens) * channels  # keys of x and of the reference
    cross_attention = 2 * 2 * rows * tokens * openclip * channels
    assert work.flops == linear + self_attention + cross_attention

    # attn2's projections of the CLIP tokens are parameters of the block that a step does not read
    weights = channels**2 * (1 + 4 + 2 + 8 + 4 + 1) + channels * (2 + 1 + 3 * 2 + 1 + 1 + 8 + 1 + 1)
    moved = sum(tensor.numel() for tensor in inputs) + inputs[0].numel()
    assert work.bytes == 4 * (weights + moved)
    assert weights < sum(parameter.numel() for parameter in module.parameters())


def test_the_limit_is_the_slower_of_computing_and_moving():
    assert Work(flops=10**12, bytes=10).limit(CEILINGS) == 1.0
    assert Work(flops=10, bytes=2 * 10**9).limit(CEILINGS) == 2.0


def test_the_step_of_the_full_model_is_about_eight_tflop():
    guided = submodule_work("hero-sd15", "fp16", "unet_step", Profile(256, 256, 16, guided=True))
    assert 8.0e12 < guided.flops < 8.3e12
    assert 2.4e9 < guided.bytes < 2.9e9  # 2.4 GB of weights in FP16, and the window's constants


def test_a_clip_is_its_submodules_once_and_its_step_as_often_as_asked():
    profile = Profile(64, 64, 16)

    def work(name: str) -> Work:
        return submodule_work("hero-tiny", "fp32", name, profile)

    one, three = (clip_work("hero-tiny", "fp32", profile, steps) for steps in (1, 3))
    assert three.flops - one.flops == 2 * work("unet_step").flops
    once = ("vae_encoder", "semantic", "refnet", "flow_encoder", "vae_decoder", "unet_step")
    assert one.flops == sum(work(name).flops for name in once)
    assert one.bytes == sum(work(name).bytes for name in once)
