"""Holds the projection of the OpenCLIP image embedding to four tokens, a semantic reference."""

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class OpenClipProjection(ModelMixin, ConfigMixin):
    """IP-Adapter's image projection (diffusers' ImageProjection, same names): one embedding to L tokens."""

    @register_to_config
    def __init__(self, image_embed_dim: int = 1024, cross_attention_dim: int = 768, num_tokens: int = 4):
        super().__init__()
        self.num_tokens = num_tokens
        self.image_embeds = nn.Linear(image_embed_dim, num_tokens * cross_attention_dim)
        self.norm = nn.LayerNorm(cross_attention_dim)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Project [N, E] to [N, L, D]."""
        return self.norm(self.image_embeds(image_embeds).unflatten(1, (self.num_tokens, -1)))
