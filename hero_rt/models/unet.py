"""The 3D-UNet: Stable Diffusion 1.5's UNet with motion modules, reference attention and flow residuals."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from hero_rt.models.attention import AttentionConstants
from hero_rt.models.blocks import Pass
from hero_rt.models.encoder import Encoder3D, build_up_blocks
from hero_rt.spec.config import LATENT_CHANNELS, Im3Placement


class UNet3D(Encoder3D):
    """Predicts the noise of a window of frames (HERO's 3D-UNet).

    `project_semantic` and `project_reference` compute everything that is constant while denoising, once. A step takes
    it as `AttentionConstants`.
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, int, int, int] = (320, 640, 1280, 1280),
        num_attention_heads: int = 8,
        cross_attention_dim: int = 768,
        norm_num_groups: int = 32,
        mid_motion: bool = False,
        im3_placement: Im3Placement = "attention",
    ):
        super().__init__()
        make = self._build_encoder()
        base = block_out_channels[0]
        # noise 4, mask 1, masked latents 4
        self.conv_in = nn.Conv2d(2 * LATENT_CHANNELS + 1, base, 3, padding=1)
        self.up_blocks = build_up_blocks(make, block_out_channels)
        self.conv_norm_out = nn.GroupNorm(norm_num_groups, base, eps=1e-5)
        self.conv_out = nn.Conv2d(base, LATENT_CHANNELS, 3, padding=1)

    def project_reference(self, features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Project the RefNet's 16 features [N, S, C] to (ref_k, ref_v) of each attention, in execution order."""
        return [
            attention.block.attn1.project_reference(feature)
            for attention, feature in zip(self.spatial_attentions(), features, strict=True)
        ]

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        condition: Tensor,
        constants: Sequence[AttentionConstants],
        flow_residuals: Sequence[Tensor],
        num_frames: int,
        guided: bool = False,
    ) -> Tensor:
        """Compute one denoising step.

        sample: [B·F, 4, h, w]; timestep: [1]; condition: [B·F, 5, h, w] (mask, f_l); constants: 16, in execution
        order; flow_residuals: 13, or empty for none; guided: also predict the null rows.
        Returns the predicted noise, [B·F, 4, h, w], or [2·B·F, 4, h, w] in the order uncond, cond.
        """
        dtype = self.conv_in.weight.dtype
        given = Pass(self.embed_time(timestep), iter(constants), num_frames, guided)
        x, skips = self.encode(self.conv_in(torch.cat([sample.to(dtype), condition], dim=1)), given)
        if flow_residuals:
            *down, mid = flow_residuals
            x = _add_rows(x, mid)
            skips = [_add_rows(skip, residual) for skip, residual in zip(skips, down, strict=True)]
        for block in self.up_blocks:
            x = block(x, skips, given)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def _add_rows(x: Tensor, residual: Tensor) -> Tensor:
    """Add residual [N, C, h, w] to each of the R/N guidance rows of x [R, C, h, w]."""
    if x.shape[0] == residual.shape[0]:
        return x + residual
    return (x.unflatten(0, (-1, residual.shape[0])) + residual).flatten(0, 1)
