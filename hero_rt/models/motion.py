"""Holds AnimateDiff's motion module with HERO's IM³: temporal attention, and a blend of neighbouring output frames.

Tokens are [R, S, C], R = B·F rows, frame-major. Only the operators get them as [B, F, S, C]: the compiler takes a
tensor of four axes that leads to a convolution for an image, and would make the frames adjacent (channels-last).
"""

import math

import torch
from diffusers.models.attention import FeedForward
from torch import Tensor, nn

from hero_kernels import im3_blend, temporal_attention_im3
from hero_rt.models.attention import _Projections, repeat_rows
from hero_rt.spec.config import Im3Placement

MAX_FRAMES = 32


def sinusoidal_positions(length: int, channels: int) -> Tensor:
    """Return sines on even channels and cosines on odd ones (Vaswani et al.), [length, channels], FP32."""
    angles = torch.arange(length)[:, None] * torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def clips(tokens: Tensor, num_frames: int) -> Tensor:
    """View [B·F, S, C] as [B, F, S, C]."""
    return tokens.unflatten(0, (-1, num_frames))


class TemporalAttention(_Projections):
    """Self-attention over the frames of each spatial token, then M_I(alpha) over frames, then to_out.

    M_I's rows sum to 1 and it acts on frames while to_out acts on channels, so blending before to_out equals
    blending after it, bias included.
    """

    def __init__(self, channels: int, num_heads: int):
        super().__init__(channels, num_heads)
        self.to_qkv: nn.Linear | None = None

    def fuse_projections(self) -> None:
        """Use one product for queries, keys and values (diffusers' name). The operator reads the thirds in place."""
        weight = torch.cat([project.weight for project in (self.to_q, self.to_k, self.to_v)])
        self.to_qkv = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
        self.to_qkv.weight = nn.Parameter(weight, requires_grad=False)
        del self.to_q, self.to_k, self.to_v

    def forward(self, x: Tensor, alpha: Tensor, num_frames: int) -> Tensor:
        """Attend over frames, and blend. x: [R, S, C]; alpha: [1] FP32. Returns [R, S, C]."""
        if self.to_qkv is not None:
            projected = self.to_qkv(x).chunk(3, dim=-1)
        else:
            projected = self.to_q(x), self.to_k(x), self.to_v(x)
        q, k, v = (clips(tokens, num_frames) for tokens in projected)
        return self.to_out[0](temporal_attention_im3(q, k, v, alpha, self.num_heads).flatten(0, 1))


def fuse_temporal_projections(module: nn.Module) -> None:
    """Fuse the query, key and value projections of every temporal attention in `module`, in place.

    Inductor merges the three products of a frozen graph, and then copies the thirds, because it has fixed dense strides
    for the operator. That is 2.3 GB of traffic in a guided step of hero-sd15 at 256x256.
    """
    for attention in module.modules():
        if isinstance(attention, TemporalAttention):
            attention.fuse_projections()


class _PositionalEmbedding(nn.Module):
    """The name under which checkpoints hold the sinusoid. It is a closed form: recomputed here, never loaded."""

    pe: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("pe", sinusoidal_positions(MAX_FRAMES, channels), persistent=False)
        self.register_load_state_dict_pre_hook(_drop_positions)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Add to each token of x [R, S, C] the position of its frame."""
        return x + repeat_rows(self.pe[:num_frames, None].to(x.dtype), x.shape[0])


def _drop_positions(module: nn.Module, state_dict: dict, prefix: str, *_: object) -> None:
    state_dict.pop(prefix + "pe", None)


class MotionTransformerBlock(nn.Module):
    """[LayerNorm, + position, temporal self-attention] twice, then LayerNorm and a GEGLU feed-forward."""

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        self.pos_embed = _PositionalEmbedding(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = TemporalAttention(channels, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = TemporalAttention(channels, num_heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, activation_fn="geglu")

    def forward(self, x: Tensor, alpha: Tensor, num_frames: int) -> Tensor:
        """Run the block. x: [R, S, C]; alpha: [1] FP32. Returns [R, S, C]."""
        x = x + self.attn1(self.pos_embed(self.norm1(x), num_frames), alpha, num_frames)
        x = x + self.attn2(self.pos_embed(self.norm2(x), num_frames), alpha, num_frames)
        return x + self.ff(self.norm3(x))


class MotionModule(nn.Module):
    """AnimateDiff's motion module (diffusers' AnimateDiffTransformer3D) with one learnable IM³ alpha.

    `im3_placement` says where M_I(alpha) acts: "attention", on both temporal attentions' outputs; "module", on
    proj_out's output before the residual; "output", after the residual (the literal reading of HERO Eq. 3).
    """

    no_blend: Tensor

    def __init__(self, channels: int, num_heads: int, norm_num_groups: int, im3_placement: Im3Placement):
        super().__init__()
        self.im3_placement = im3_placement
        self.norm = nn.GroupNorm(norm_num_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([MotionTransformerBlock(channels, num_heads)])
        self.proj_out = nn.Linear(channels, channels)
        self.im3_alpha = nn.Parameter(torch.zeros(1))
        self.register_buffer("no_blend", torch.zeros(1), persistent=False)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Add temporal attention to a feature map, and blend neighbouring frames by M_I(alpha).

        x: [B·F, C, h, w], frame-major: the F frames of the first clip come first. Returns the same shape.
        """
        height, width = x.shape[-2:]
        alpha = self.im3_alpha.float()
        inside = alpha if self.im3_placement == "attention" else self.no_blend.float()

        # per frame: AnimateDiff's weights were trained so; diffusers normalises jointly over the frames
        tokens = self.norm(x).flatten(2).transpose(1, 2).contiguous()  # else a product a row, with the weight repeated
        tokens = self.proj_out(self.transformer_blocks[0](self.proj_in(tokens), inside, num_frames))
        residual = x.flatten(2).transpose(1, 2)
        if self.im3_placement == "module":
            tokens = im3_blend(clips(tokens, num_frames), alpha, clips(residual, num_frames)).flatten(0, 1)
        elif self.im3_placement == "output":
            tokens = im3_blend(clips(tokens + residual, num_frames), alpha).flatten(0, 1)
        else:
            tokens = tokens + residual
        return tokens.transpose(1, 2).unflatten(2, (height, width))
