"""Holds the 3D-RefNet: a second UNet that runs on the padded clip once. The first UNet uses its attention inputs."""

from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from hero_rt.models.blocks import Pass
from hero_rt.models.encoder import Encoder3D, build_up_blocks
from hero_rt.spec.config import LATENT_CHANNELS, NUM_ATTENTIONS, Im3Placement


class RefNet3D(Encoder3D):
    """Same network as the UNet with 4 input channels (f_l alone) and its own weights, stopped after its last feature.

    The layers after the 16th attention's norm1 do not exist here, because nothing uses their result.
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
        self.conv_in = nn.Conv2d(LATENT_CHANNELS, block_out_channels[0], 3, padding=1)
        self.up_blocks = build_up_blocks(make, block_out_channels, tapped=True)

    def forward(
        self, latents: Tensor, clip_embeds: Tensor, openclip_embeds: Tensor, timestep: Tensor, num_frames: int
    ) -> list[Tensor]:
        """Compute the features of a window.

        latents: f_l [B·F, 4, h, w]; clip_embeds [B·F, 1, D]; openclip_embeds [B·F, L, D]; timestep [1], zero.
        Returns the input of every spatial self-attention (norm1's output), 16 x [B·F, S, C]: down, mid, up.
        """
        features: list[Tensor] = []
        constants = iter(self.project_semantic(clip_embeds, openclip_embeds))
        given = Pass(self.embed_time(timestep), constants, num_frames, features=features)
        x, skips = self.encode(self.conv_in(latents), given)
        for block in self.up_blocks:
            x = block(x, skips, given)
        features.append(x)
        assert len(features) == NUM_ATTENTIONS
        return features
