"""Holds the part that UNet, RefNet and flow encoder share: time embedding, down blocks and mid block."""

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import Tensor, nn

from hero_rt.models.attention import AttentionConstants, SpatialTransformer
from hero_rt.models.blocks import BlockFactory, DownBlock, MidBlock, Pass, UpBlock


class Encoder3D(ModelMixin, ConfigMixin):
    """The encoder half of a Stable Diffusion 1.5 UNet with a motion module after every resnet and its attention."""

    down_blocks: nn.ModuleList
    mid_block: MidBlock

    def _build_encoder(self) -> BlockFactory:
        """Make the parts by the registered config. Returns the factory of the decoder's."""
        config, base = self.config, self.config.block_out_channels[0]
        self.time_channels = base
        self.time_embedding = TimestepEmbedding(base, 4 * base)
        make = BlockFactory(
            config.num_attention_heads,
            config.cross_attention_dim,
            config.norm_num_groups,
            4 * base,
            config.im3_placement,
        )
        inputs = (base, *config.block_out_channels[:-1])
        self.down_blocks = nn.ModuleList(
            DownBlock(make, c_in, c_out, attention=i < 3, downsample=i < 3)
            for i, (c_in, c_out) in enumerate(zip(inputs, config.block_out_channels, strict=True))
        )
        self.mid_block = MidBlock(make, config.block_out_channels[-1], config.mid_motion)
        return make

    def embed_time(self, timestep: Tensor) -> Tensor:
        """Embed timestep [1] to [1, 4·C0], after the SiLU that precedes the projection of every resnet.

        The sinusoid is FP32 whatever the weights' dtype: at t near 1000 its phase has no bits left in FP16.
        """
        sinusoid = get_timestep_embedding(timestep.float(), self.time_channels, True, 0)
        return F.silu(self.time_embedding(sinusoid.to(self.time_embedding.linear_1.weight.dtype)))

    def encode(self, x: Tensor, given: Pass) -> tuple[Tensor, list[Tensor]]:
        """Run the down blocks and the mid block.

        Args:
            x: [B·F, C0, h, w], the output of the network's first convolution.
            given: the time embedding and the attention constants, which all blocks use.

        Returns:
            The mid block's output, and 12 skip connections: x itself, then the outputs of the down blocks in order.
        """
        skips = [x]
        for block in self.down_blocks:
            skips += block(skips[-1], given)
        return self.mid_block(skips[-1], given), skips

    def spatial_attentions(self) -> list[SpatialTransformer]:
        """Return the attentions in execution order: down, mid, up. diffusers registers mid last."""
        blocks = [*self.down_blocks, self.mid_block, *getattr(self, "up_blocks", [])]
        attentions = [a for block in blocks for a in getattr(block, "attentions", [])]
        return [a for a in attentions if isinstance(a, SpatialTransformer)]

    def project_semantic(self, clip_embeds: Tensor, openclip_embeds: Tensor) -> list[AttentionConstants]:
        """Project clip_embeds [N, 1, D] and openclip_embeds [N, L, D] to the values and keys of each attention."""
        return [
            attention.block.attn2.project_semantic(clip_embeds, openclip_embeds)
            for attention in self.spatial_attentions()
        ]


def build_up_blocks(
    make: BlockFactory, block_out_channels: tuple[int, int, int, int], tapped: bool = False
) -> nn.ModuleList:
    """Make the decoder half. A block takes the skips of its level: two of the level's own resnets, one from above."""
    c0, c1, c2, c3 = block_out_channels
    plans = (  # input channels, skips in the order they are read, output channels
        (c3, (c3, c3, c2), c3),
        (c3, (c2, c2, c1), c2),
        (c2, (c1, c1, c0), c1),
        (c1, (c0, c0, c0), c0),
    )
    return nn.ModuleList(
        UpBlock(make, c_in, skips, c_out, attention=i > 0, upsample=i < 3, tapped=tapped and i == 3)
        for i, (c_in, skips, c_out) in enumerate(plans)
    )
