"""Defines the inputs and outputs of the six submodules: names, order, shapes and dtypes.

Engines need this module and not the PyTorch model. Tensors have B·F rows, the frames of a window. There is no clip_k:
f_c has one token, and a softmax over one value is 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hero_rt.spec.config import IMAGE_SIZE, LATENT_CHANNELS, HeroConfig
from hero_rt.spec.profile import SUBMODULES as SUBMODULES
from hero_rt.spec.profile import AnyProfile, Profile

FREE = -1  # an axis of any size, as ONNX and TensorRT write it


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one named tensor. FREE stands for an axis of any size."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def fits(self, other: "TensorSpec") -> bool:
        """Return whether `other` has this dtype and shape. FREE fits any size."""
        return (
            self.dtype == other.dtype
            and len(self.shape) == len(other.shape)
            and all(mine in (FREE, size) for mine, size in zip(self.shape, other.shape, strict=True))
        )

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.shape)}"


Specs = dict[str, TensorSpec]


def submodule_io(name: str, config: HeroConfig, profile: Profile, dtype: torch.dtype) -> tuple[Specs, Specs]:
    """Return the inputs and outputs of a submodule by name, in the order of its module.

    Args:
        name: one of SUBMODULES.
        config: of the checkpoint.
        profile: canvas, window and guidance.
        dtype: of every tensor except sample, timestep and noise_pred, which are FP32 as the sampler is.
    """
    rows = profile.frames
    pixels = (rows, 3, profile.height, profile.width)
    levels = config.level_sizes(profile.height, profile.width)
    latents = (rows, LATENT_CHANNELS, *levels[0])
    width = config.cross_attention_dim
    f32 = torch.float32

    clip_embeds = {"clip_embeds": TensorSpec((rows, 1, width), dtype)}
    openclip_embeds = {"openclip_embeds": TensorSpec((rows, config.num_openclip_tokens, width), dtype)}
    embeds = clip_embeds | openclip_embeds

    def per_attention(prefix: str, tokens: Callable[[int], int]) -> Specs:
        return {
            f"{prefix}.{i}": TensorSpec((rows, tokens(level), config.block_out_channels[level]), dtype)
            for i, level in enumerate(config.attention_levels)
        }

    def num_tokens(level: int) -> int:
        return levels[level][0] * levels[level][1]

    semantic = (
        per_attention("clip_v", lambda _: 1)
        | per_attention("openclip_k", lambda _: config.num_openclip_tokens)
        | per_attention("openclip_v", lambda _: config.num_openclip_tokens)
    )
    reference = per_attention("ref_k", num_tokens) | per_attention("ref_v", num_tokens)
    residuals = {
        f"flow_residual.{j}": TensorSpec((rows, config.block_out_channels[c], *levels[level]), dtype)
        for j, (c, level) in enumerate(config.residual_levels)
    }
    flow_inputs = {"flow_mask": TensorSpec(pixels, dtype)} | embeds
    # with a synced OFE the residuals depend on the step, so the step makes them itself
    flow_reads = residuals if config.ofe_timestep == "zero" else flow_inputs
    table: dict[str, tuple[Specs, Specs]] = {
        "vae_encoder": ({"frames": TensorSpec(pixels, dtype)}, {"latents": TensorSpec(latents, dtype)}),
        "semantic": (
            {"pixel_values": TensorSpec((rows, 3, IMAGE_SIZE, IMAGE_SIZE), dtype)},
            embeds | semantic,
        ),
        "refnet": ({"latents": TensorSpec(latents, dtype)} | embeds, reference),
        "flow_encoder": (flow_inputs, residuals),
        "unet_step": (
            {
                "sample": TensorSpec(latents, f32),
                "timestep": TensorSpec((1,), f32),
                "condition": TensorSpec((rows, LATENT_CHANNELS + 1, *levels[0]), dtype),
            }
            | reference
            | semantic
            | flow_reads,
            {"noise_pred": TensorSpec((profile.guidance_rows * rows, *latents[1:]), f32)},
        ),
        "vae_decoder": ({"latents": TensorSpec(latents, dtype)}, {"frames": TensorSpec(pixels, dtype)}),
    }
    return table[name]


def submodule_boundary(name: str, config: HeroConfig, profile: AnyProfile, dtype: torch.dtype) -> tuple[Specs, Specs]:
    """Return `submodule_io` of a profile or of a range. Axes that vary over the range are FREE."""
    first, *others = (submodule_io(name, config, shape, dtype) for shape in profile.shapes)

    def merged(side: int) -> Specs:
        return {
            key: TensorSpec(
                tuple(
                    size if all(other[side][key].shape[axis] == size for other in others) else FREE
                    for axis, size in enumerate(spec.shape)
                ),
                spec.dtype,
            )
            for key, spec in first[side].items()
        }

    return merged(0), merged(1)
