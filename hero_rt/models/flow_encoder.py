"""Holds the optical-flow encoder: a ControlNet over flow and mask. It runs once for each window."""

from diffusers.configuration_utils import register_to_config
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding, zero_module
from torch import Tensor, nn

from hero_rt.models.blocks import Pass
from hero_rt.models.encoder import Encoder3D
from hero_rt.spec.config import Im3Placement, OfeTimestep


class FlowEncoder3D(Encoder3D):
    """HERO's OFE: a ControlNet of the UNet's encoder whose conditioning embedding takes conv_in's place.

    It has no noisy latent. The embedding is the only input, so its last convolution is not zero-initialised. The 12 + 1
    output convolutions are. `ofe_timestep="synced"`, the paper's ablation, uses the sampler's timestep instead of 0.
    The residuals then depend on the step.
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
        embedding_channels: tuple[int, ...] = (16, 32, 96, 256),
        ofe_timestep: OfeTimestep = "zero",
    ):
        super().__init__()
        self._build_encoder()
        base = block_out_channels[0]
        self.controlnet_cond_embedding = ControlNetConditioningEmbedding(base, 3, embedding_channels)
        self.controlnet_cond_embedding.conv_out.reset_parameters()
        widths = [base] + [c for i, c in enumerate(block_out_channels) for _ in range(3 if i < 3 else 2)]
        self.controlnet_down_blocks = nn.ModuleList(zero_module(nn.Conv2d(c, c, 1)) for c in widths)
        self.controlnet_mid_block = zero_module(nn.Conv2d(block_out_channels[-1], block_out_channels[-1], 1))

    def forward(
        self, flow_mask: Tensor, clip_embeds: Tensor, openclip_embeds: Tensor, timestep: Tensor, num_frames: int
    ) -> list[Tensor]:
        """Encode the flow of a window.

        flow_mask: [B·F, 3, H, W] (flow x, flow y, mask); clip_embeds [B·F, 1, D]; openclip_embeds [B·F, L, D];
        timestep: [1], 0 unless `ofe_timestep` is "synced".
        Returns 13 residuals [B·F, C, h, w]: 12 of the down blocks, 1 of the mid block.
        """
        constants = iter(self.project_semantic(clip_embeds, openclip_embeds))
        given = Pass(self.embed_time(timestep), constants, num_frames)
        x, skips = self.encode(self.controlnet_cond_embedding(flow_mask), given)
        down = [conv(skip) for conv, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        return [*down, self.controlnet_mid_block(x)]
