"""Computes spatial attention: self-attention with the RefNet's keys, and cross-attention to the CLIP tokens."""

from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from torch import Tensor, nn


class AttentionConstants(NamedTuple):
    """The inputs of one spatial attention block besides its own tokens. They are constant while denoising.

    N = B·F conditional rows, S tokens a frame, C channels of the block, L OpenCLIP tokens.
    """

    clip_v: Tensor  # [N, 1, C]
    openclip_k: Tensor  # [N, L, C]
    openclip_v: Tensor  # [N, L, C]
    ref_k: Tensor | None = None  # [N, S, C]
    ref_v: Tensor | None = None  # [N, S, C]


def repeat_rows(x: Tensor, rows: int) -> Tensor:
    """Repeat the N rows of [N, ...] in order to [rows, ...], for inputs that all guidance rows share."""
    return x if x.shape[0] == rows else torch.cat([x] * (rows // x.shape[0]))


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """Compute softmax(q kᵀ/√d) v per head. q: [R, S, C]; k, v: [R, L, C]. Returns [R, S, C]."""
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class _Projections(nn.Module):
    """The four projections of an attention, under diffusers' parameter names."""

    def __init__(self, channels: int, num_heads: int, context_dim: int | None = None):
        super().__init__()
        context_dim = channels if context_dim is None else context_dim
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_dim, channels, bias=False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])


class ReferenceSelfAttention(_Projections):
    """Self-attention with the RefNet's keys and values too: K and V are from [x ; ref] along the tokens.

    HERO concatenates along the width and keeps the first half of the result. The queries of the other half are not
    computed here. The kept half does not depend on them.
    """

    def forward(self, x: Tensor, ref_k: Tensor | None, ref_v: Tensor | None) -> Tensor:
        """Attend. x: [R, S, C]; ref_k, ref_v: [N, S, C] of `project_reference`, N divides R. Returns [R, S, C]."""
        k, v = self.to_k(x), self.to_v(x)
        if ref_k is not None and ref_v is not None:
            rows = x.shape[0]
            k = torch.cat([k, repeat_rows(ref_k, rows)], dim=1)
            v = torch.cat([v, repeat_rows(ref_v, rows)], dim=1)
        return self.to_out[0](attend(self.to_q(x), k, v, self.num_heads))

    def project_reference(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Project a RefNet feature [N, S, C] to (ref_k, ref_v), each [N, S, C]."""
        return self.to_k(feature), self.to_v(feature)


class DecoupledCrossAttention(_Projections):
    """softmax(Q K_oᵀ/√d) V_o + softmax(Q K_cᵀ/√d) V_c (HERO Eq. 4; IP-Adapter's decoupled cross-attention).

    f_c (OpenAI CLIP) is a single token, so its softmax is 1 and its branch is V_c. `to_k` has no effect and is not a
    parameter. Loading a checkpoint drops its `to_k.weight`.
    """

    def __init__(self, channels: int, num_heads: int, context_dim: int):
        super().__init__(channels, num_heads, context_dim)
        del self.to_k
        self.to_k_ip = nn.ModuleList([nn.Linear(context_dim, channels, bias=False)])
        self.to_v_ip = nn.ModuleList([nn.Linear(context_dim, channels, bias=False)])
        self.register_load_state_dict_pre_hook(_drop_clip_key)

    def forward(self, x: Tensor, constants: AttentionConstants) -> Tensor:
        """Attend to the CLIP tokens. x: [N, S, C], the conditional rows only. Returns [N, S, C]."""
        out = attend(self.to_q(x), constants.openclip_k, constants.openclip_v, self.num_heads)
        return self.to_out[0](out + constants.clip_v)

    @property
    def null(self) -> Tensor:
        """The output [C] for CLIP terms of zero."""
        return self.to_out[0].bias  # type: ignore[return-value]

    def project_semantic(self, clip_embeds: Tensor, openclip_embeds: Tensor) -> AttentionConstants:
        """Project clip_embeds [N, 1, D] and openclip_embeds [N, L, D] to values and keys."""
        return AttentionConstants(
            self.to_v(clip_embeds), self.to_k_ip[0](openclip_embeds), self.to_v_ip[0](openclip_embeds)
        )


def _drop_clip_key(module: nn.Module, state_dict: dict, prefix: str, *_: object) -> None:
    state_dict.pop(prefix + "to_k.weight", None)


class SpatialTransformerBlock(nn.Module):
    """diffusers' BasicTransformerBlock with reference attention and decoupled cross-attention."""

    def __init__(self, channels: int, num_heads: int, context_dim: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = ReferenceSelfAttention(channels, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = DecoupledCrossAttention(channels, num_heads, context_dim)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, activation_fn="geglu")

    def forward(self, x: Tensor, constants: AttentionConstants, guided: bool, features: list[Tensor] | None) -> Tensor:
        """Run the block on x [R, S, C]. `guided` adds the null rows in front. `features` collects norm1's output.

        Returns [N, S, C], or [2N, S, C] when guided: rows uncond, cond.
        """
        normed = self.norm1(x)
        if features is not None:
            features.append(normed)
        x = x + self.attn1(normed, constants.ref_k, constants.ref_v)

        # Up to the first cross-attention both guidance rows are equal, so x may still be N rows: then the two
        # slices are the same rows, and this is where they part. The null row's CLIP terms are zero, which leaves
        # to_out's bias.
        num = constants.clip_v.shape[0]
        cond = x[-num:]
        cond = cond + self.attn2(self.norm2(cond), constants)
        x = torch.cat([x[:num] + self.attn2.null, cond]) if guided else cond

        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """GroupNorm, 1x1 convolution in, one transformer block over the S = h·w tokens, 1x1 convolution out, residual."""

    def __init__(self, channels: int, num_heads: int, context_dim: int, norm_num_groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(norm_num_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([SpatialTransformerBlock(channels, num_heads, context_dim)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    @property
    def block(self) -> SpatialTransformerBlock:
        """Its one transformer block (checkpoints hold a list)."""
        return self.transformer_blocks[0]  # type: ignore[return-value]

    def forward(
        self, x: Tensor, constants: AttentionConstants, guided: bool = False, features: list[Tensor] | None = None
    ) -> Tensor:
        """Run the block on a feature map [R, C, h, w]. Returns [N, C, h, w], or [2N, C, h, w] when guided."""
        height, width = x.shape[-2:]
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        tokens = self.block(tokens, constants, guided, features)
        out = self.proj_out(tokens.transpose(1, 2).unflatten(2, (height, width)))
        return out + repeat_rows(x, out.shape[0])


class ReferenceTap(nn.Module):
    """The start of a SpatialTransformer up to norm1. The RefNet ends here."""

    def __init__(self, channels: int, norm_num_groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(norm_num_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([nn.Sequential(OrderedDict(norm1=nn.LayerNorm(channels)))])

    def forward(self, x: Tensor) -> Tensor:
        """Compute norm1's output [N, S, C] for x [N, C, h, w]."""
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        return self.transformer_blocks[0](tokens)
