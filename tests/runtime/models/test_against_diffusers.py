"""The reference model against diffusers' own networks on the same weights, in float64."""

import pytest
import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

from hero_rt.models import HeroConfig, HeroModel, UNet3D
from hero_rt.models.attention import AttentionConstants, DecoupledCrossAttention
from hero_rt.models.motion import MotionModule

FRAMES = 5
TOLERANCE = 1e-9  # float64; the models agree or they do not


@pytest.fixture(scope="module")
def model() -> HeroModel:
    """Random weights, motion switched off (proj_out zero) so that diffusers' per-frame networks are the truth."""
    model = HeroModel.random("hero-tiny", seed=3, dtype=torch.float64)
    for part in ("unet", "refnet", "flow_encoder"):
        for module in model[part].modules():
            if isinstance(module, MotionModule):
                nn.init.zeros_(module.proj_out.weight)
                nn.init.zeros_(module.proj_out.bias)
    return model


@pytest.fixture(scope="module")
def embeds(model: HeroModel) -> tuple[Tensor, Tensor]:
    width = model.config.cross_attention_dim
    return rand(FRAMES, 1, width), rand(FRAMES, 4, width)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64)


def settings(config: HeroConfig) -> dict:
    return {
        "block_out_channels": config.block_out_channels,
        "attention_head_dim": config.num_attention_heads,  # diffusers' name for the number of heads
        "cross_attention_dim": config.cross_attention_dim,
        "norm_num_groups": config.norm_num_groups,
    }


def with_ip_adapter(network: nn.Module) -> nn.Module:
    """Put IP-Adapter's processor on every cross-attention."""
    for name, module in network.named_modules():
        if isinstance(module, Attention) and name.endswith("attn2"):
            module.set_processor(IPAdapterAttnProcessor2_0(module.inner_dim, module.cross_attention_dim))
    return network.double().eval()


def load(network: nn.Module, state: dict[str, Tensor], allowed_unused: tuple[str, ...]) -> None:
    """Our weights under our names; only our `to_k_ip`/`to_v_ip` differ by the processor's prefix."""
    renamed = {
        key.replace("attn2.to_k_ip", "attn2.processor.to_k_ip").replace("attn2.to_v_ip", "attn2.processor.to_v_ip"): v
        for key, v in state.items()
    }
    missing, unexpected = network.load_state_dict(renamed, strict=False)
    assert all(key.endswith("attn2.to_k.weight") for key in missing), missing  # the dead projection of f_c
    assert all("motion_modules" in key or key.startswith(allowed_unused) for key in unexpected), unexpected


@pytest.mark.parametrize(
    ("height", "width"), [pytest.param(16, 8, id="16x8-cells"), pytest.param(9, 7, id="odd-9x7-cells")]
)
@torch.no_grad()
def test_unet_step_equals_unet2dconditionmodel_per_frame(model, embeds, height, width):
    truth = with_ip_adapter(UNet2DConditionModel(in_channels=9, **settings(model.config)))
    load(truth, model["unet"].state_dict(), ())
    sample, condition = rand(FRAMES, 4, height, width), rand(FRAMES, 5, height, width)
    clip, openclip = embeds
    unet: UNet3D = model["unet"]
    reads = unet.project_semantic(clip, openclip)

    got = unet(sample, torch.tensor([321.0]), condition, reads, [], FRAMES)

    want = truth(torch.cat([sample, condition], 1), 321, encoder_hidden_states=(clip, [openclip])).sample
    torch.testing.assert_close(got, want, rtol=TOLERANCE, atol=TOLERANCE)


@torch.no_grad()
def test_refnet_features_equal_norm1_outputs_of_a_unet_in_execution_order(model, embeds):
    truth = with_ip_adapter(UNet2DConditionModel(in_channels=4, **settings(model.config)))
    state = model["refnet"].state_dict()
    missing, unexpected = truth.load_state_dict(
        {k.replace("attn2.to_k_ip", "attn2.processor.to_k_ip").replace("attn2.to_v_ip", "attn2.processor.to_v_ip"): v
         for k, v in state.items()},
        strict=False,
    )  # fmt: skip
    assert all("motion_modules" in key for key in unexpected)
    last = "up_blocks.3.attentions.2."
    assert all(
        key.startswith((last, "conv_norm_out", "conv_out")) or key.endswith("attn2.to_k.weight") for key in missing
    )
    seen: list[Tensor] = []
    for name, module in truth.named_modules():
        if name.endswith("transformer_blocks.0.norm1"):
            module.register_forward_hook(lambda _module, _args, out: seen.append(out))
    latents = rand(FRAMES, 4, 8, 12)

    got = model["refnet"](latents, *embeds, torch.zeros(1), FRAMES)

    truth(latents, 0, encoder_hidden_states=(embeds[0], [embeds[1]]))
    assert len(got) == len(seen) == 16
    for feature, want in zip(got, seen, strict=True):
        torch.testing.assert_close(feature, want, rtol=TOLERANCE, atol=TOLERANCE)


@torch.no_grad()
def test_flow_encoder_equals_controlnet_without_a_noisy_latent(model, embeds):
    config = model.config
    truth = with_ip_adapter(
        ControlNetModel(
            **settings(config),
            conditioning_channels=3,
            conditioning_embedding_out_channels=config.embedding_channels,
        )
    )
    state = {**model["flow_encoder"].state_dict()}
    state["conv_in.weight"] = torch.zeros_like(truth.conv_in.weight)  # so that the embedding is conv_in's output
    state["conv_in.bias"] = torch.zeros_like(truth.conv_in.bias)
    load(truth, state, ())
    flow_mask = rand(FRAMES, 3, 64, 48)

    got = model["flow_encoder"](flow_mask, *embeds, torch.zeros(1), FRAMES)

    down, mid = truth(
        torch.zeros(FRAMES, 4, 8, 6, dtype=torch.float64),
        0,
        encoder_hidden_states=(embeds[0], [embeds[1]]),
        controlnet_cond=flow_mask,
        return_dict=False,
    )
    assert len(got) == 13
    for residual, want in zip(got, [*down, mid], strict=True):
        assert want.abs().max() > 1e-3
        torch.testing.assert_close(residual, want, rtol=TOLERANCE, atol=TOLERANCE)


class PerFrame(nn.Module):
    """GroupNorm over [B, C, F, h, w] one frame at a time: how AnimateDiff's weights were trained."""

    def __init__(self, norm: nn.GroupNorm):
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.norm(frame) for frame in x.unbind(2)], dim=2)


@torch.no_grad()
def test_motion_module_with_alpha_zero_equals_animatediff_with_a_per_frame_norm():
    channels, heads, frames = 32, 2, 6
    truth = AnimateDiffTransformer3D(
        heads,
        channels // heads,
        in_channels=channels,
        norm_num_groups=8,
        activation_fn="geglu",
        attention_bias=False,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    ).double()
    ours = MotionModule(channels, heads, 8, "attention").double()
    result = ours.load_state_dict(truth.state_dict(), strict=False)
    assert result.missing_keys == ["im3_alpha"]
    assert result.unexpected_keys == []
    truth.norm = PerFrame(truth.norm)
    x = rand(2 * frames, channels, 5, 3)

    got = ours(x, frames)

    assert (got - x).abs().max() > 1e-2
    torch.testing.assert_close(got, truth(x, num_frames=frames), rtol=TOLERANCE, atol=1e-6)  # pe is FP32 in both


@torch.no_grad()
def test_decoupled_cross_attention_equals_ip_adapter():
    channels, heads, width = 48, 2, 40
    processor = IPAdapterAttnProcessor2_0(channels, width)
    truth = Attention(channels, width, heads=heads, dim_head=channels // heads, processor=processor).double()
    ours = DecoupledCrossAttention(channels, heads, width).double()
    state = {key.replace("processor.", ""): value for key, value in truth.double().state_dict().items()}
    assert "to_k.weight" in state  # accepted and dropped
    ours.load_state_dict(state)
    x, clip, openclip = rand(3, 10, channels), rand(3, 1, width), rand(3, 4, width)

    got = ours(x, ours.project_semantic(clip, openclip))

    want = truth(x, encoder_hidden_states=(clip, [openclip]))
    torch.testing.assert_close(got, want, rtol=TOLERANCE, atol=TOLERANCE)


@torch.no_grad()
def test_openclip_projection_equals_ip_adapters(model):
    config = model.config
    truth = ImageProjection(config.openclip["projection_dim"], config.cross_attention_dim, 4).double()
    truth.load_state_dict(model["image_projection"].state_dict())
    x = rand(3, config.openclip["projection_dim"])
    torch.testing.assert_close(model["image_projection"](x), truth(x), rtol=TOLERANCE, atol=TOLERANCE)


@torch.no_grad()
def test_reference_attention_is_the_kept_half_of_attention_over_the_doubled_width(model):
    """The paper concatenates x and its reference along the width, attends, and keeps the first half."""
    attention = model["unet"].down_blocks[0].attentions[0].transformer_blocks[0].attn1
    channels = model.config.block_out_channels[0]
    x, ref = rand(2, 12, channels, seed=1), rand(2, 12, channels, seed=2)
    truth = Attention(channels, heads=attention.num_heads, dim_head=channels // attention.num_heads).double()
    truth.load_state_dict(attention.state_dict())

    got = attention(x, *attention.project_reference(ref))

    want = truth(torch.cat([x, ref], dim=1))[:, :12]
    torch.testing.assert_close(got, want, rtol=TOLERANCE, atol=TOLERANCE)


def test_stable_diffusion_and_motion_adapter_weights_load_without_renaming(model):
    config = model.config
    unet = UNet3D(**config.network)
    names = set(unet.state_dict())
    sd15 = UNet2DConditionModel(in_channels=9, **settings(config)).state_dict()
    adapter = MotionAdapter(
        block_out_channels=config.block_out_channels,
        motion_num_attention_heads=config.num_attention_heads,
        motion_norm_num_groups=config.norm_num_groups,
        use_motion_mid_block=False,
    ).state_dict()

    first = unet.load_state_dict(sd15, strict=False)
    second = unet.load_state_dict(adapter, strict=False)

    assert first.unexpected_keys == second.unexpected_keys == []
    left = set(first.missing_keys) & set(second.missing_keys)
    assert {key.rsplit(".", 1)[-1] if "im3" in key else key.split("attn2.")[1] for key in left} == {
        "im3_alpha", "to_k_ip.0.weight", "to_v_ip.0.weight"
    }  # fmt: skip
    assert len([key for key in left if "im3_alpha" in key]) == 20
    assert left < names


@torch.no_grad()
def test_null_row_has_no_clip_terms_and_the_conditional_row_equals_an_unguided_run(model, embeds):
    unet: UNet3D = model["unet"]
    sample, condition, t = rand(FRAMES, 4, 8, 8), rand(FRAMES, 5, 8, 8), torch.tensor([500.0])
    reads = unet.project_semantic(*embeds)
    features = model["refnet"](rand(FRAMES, 4, 8, 8, seed=5), *embeds, torch.zeros(1), FRAMES)
    refs = unet.project_reference(features)
    full = [AttentionConstants(*read[:3], *ref) for read, ref in zip(reads, refs, strict=True)]
    # zero tokens after projection: K = V = 0, so both softmax terms are zero
    null = [
        AttentionConstants(*(torch.zeros_like(x) for x in read[:3]), *ref)
        for read, ref in zip(reads, refs, strict=True)
    ]
    residuals = model["flow_encoder"](rand(FRAMES, 3, 64, 64), *embeds, torch.zeros(1), FRAMES)

    guided = unet(sample, t, condition, full, residuals, FRAMES, guided=True)

    cond = unet(sample, t, condition, full, residuals, FRAMES)
    uncond = unet(sample, t, condition, null, residuals, FRAMES)
    assert (cond - uncond).abs().max() > 1e-3
    torch.testing.assert_close(guided, torch.cat([uncond, cond]), rtol=TOLERANCE, atol=TOLERANCE)
