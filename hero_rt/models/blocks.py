"""The blocks of a Stable Diffusion 1.5 UNet, each resnet (and its attention) followed by a motion module."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hero_rt.models.attention import AttentionConstants, ReferenceTap, SpatialTransformer, repeat_rows
from hero_rt.models.motion import MotionModule
from hero_rt.spec.config import Im3Placement

LAYERS_PER_BLOCK = 2


class ResnetBlock(nn.Module):
    """diffusers' ResnetBlock2D under the same names, without its division by an output scale of 1."""

    def __init__(self, in_channels: int, out_channels: int, temb_channels: int, norm_num_groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_num_groups, in_channels, eps=1e-5)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = nn.GroupNorm(norm_num_groups, out_channels, eps=1e-5)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """Run the block. x: [R, C_in, h, w]; temb: [1, T], already through SiLU. Returns [R, C_out, h, w]."""
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(temb)[:, :, None, None]
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


def _resampler(channels: int, stride: int) -> nn.Sequential:
    """Make the convolution of a down- or upsampler, under diffusers' name."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, channels, 3, stride=stride, padding=1)))


@dataclass(frozen=True)
class Pass:
    """What all blocks of one forward pass read beside their tokens.

    temb: [1, T], already through SiLU. constants: of each spatial attention, in execution order. guided: also compute
    the null rows. features: collects the inputs of the self-attentions, for a RefNet.
    """

    temb: Tensor
    constants: Iterator[AttentionConstants]
    num_frames: int
    guided: bool = False
    features: list[Tensor] | None = None

    def attend(self, attention: nn.Module, x: Tensor) -> Tensor:
        return attention(x, next(self.constants), self.guided, self.features)


class BlockFactory:
    """Makes the layers of one network, with the settings that all its blocks share."""

    def __init__(self, num_heads: int, context_dim: int, groups: int, temb_channels: int, im3_placement: Im3Placement):
        self.num_heads, self.context_dim, self.groups = num_heads, context_dim, groups
        self.temb_channels, self.im3_placement = temb_channels, im3_placement

    def resnet(self, in_channels: int, out_channels: int) -> ResnetBlock:
        return ResnetBlock(in_channels, out_channels, self.temb_channels, self.groups)

    def attention(self, channels: int) -> SpatialTransformer:
        return SpatialTransformer(channels, self.num_heads, self.context_dim, self.groups)

    def motion(self, channels: int) -> MotionModule:
        return MotionModule(channels, self.num_heads, self.groups, self.im3_placement)


class DownBlock(nn.Module):
    """CrossAttnDownBlock2D, or DownBlock2D where `attention` is False, with motion modules."""

    def __init__(self, make: BlockFactory, in_channels: int, channels: int, attention: bool, downsample: bool):
        super().__init__()
        self.resnets = nn.ModuleList(
            make.resnet(in_channels if j == 0 else channels, channels) for j in range(LAYERS_PER_BLOCK)
        )
        self.attentions = nn.ModuleList(make.attention(channels) for _ in self.resnets if attention)
        self.motion_modules = nn.ModuleList(make.motion(channels) for _ in self.resnets)
        self.downsamplers = nn.ModuleList([_resampler(channels, stride=2)] if downsample else [])

    def forward(self, x: Tensor, given: Pass) -> list[Tensor]:
        """Return the block's skip connections. The last one is its output."""
        skips = []
        for j, resnet in enumerate(self.resnets):
            x = resnet(x, given.temb)
            if self.attentions:
                x = given.attend(self.attentions[j], x)
            x = self.motion_modules[j](x, given.num_frames)
            skips.append(x)
        skips += [downsample(x) for downsample in self.downsamplers]
        return skips


class MidBlock(nn.Module):
    """UNetMidBlock2DCrossAttn. With `motion` (AnimateDiff v2) a motion module follows its attention."""

    def __init__(self, make: BlockFactory, channels: int, motion: bool):
        super().__init__()
        self.resnets = nn.ModuleList(make.resnet(channels, channels) for _ in range(2))
        self.attentions = nn.ModuleList([make.attention(channels)])
        self.motion_modules = nn.ModuleList([make.motion(channels)] if motion else [])

    def forward(self, x: Tensor, given: Pass) -> Tensor:
        x = given.attend(self.attentions[0], self.resnets[0](x, given.temb))
        for motion in self.motion_modules:
            x = motion(x, given.num_frames)
        return self.resnets[1](x, given.temb)


class UpBlock(nn.Module):
    """CrossAttnUpBlock2D, or UpBlock2D where `attention` is False, with motion modules.

    `tapped` makes the RefNet's last block: its third attention ends at norm1 and nothing follows it.
    """

    def __init__(
        self,
        make: BlockFactory,
        in_channels: int,
        skip_channels: tuple[int, int, int],
        channels: int,
        attention: bool,
        upsample: bool,
        tapped: bool = False,
    ):
        super().__init__()
        self.resnets = nn.ModuleList(
            make.resnet((in_channels if j == 0 else channels) + skip, channels) for j, skip in enumerate(skip_channels)
        )
        whole = len(skip_channels) - tapped
        layers: list[nn.Module] = [make.attention(channels) for _ in range(whole) if attention]
        self.attentions = nn.ModuleList(layers + [ReferenceTap(channels, make.groups)] * tapped)
        self.motion_modules = nn.ModuleList(make.motion(channels) for _ in range(whole))
        self.upsamplers = nn.ModuleList([_resampler(channels, stride=1)] if upsample else [])
        self.tapped = tapped

    def forward(self, x: Tensor, skips: list[Tensor], given: Pass) -> Tensor:
        """Take skip connections from the end of `skips`. Returns the output, or a tapped block's last feature."""
        for j, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, repeat_rows(skips.pop(), x.shape[0])], dim=1), given.temb)
            if self.tapped and j == len(self.resnets) - 1:
                return self.attentions[j](x)
            if self.attentions:
                x = given.attend(self.attentions[j], x)
            x = self.motion_modules[j](x, given.num_frames)
        for upsample in self.upsamplers:
            # to the size of the next skip connection: twice as large, minus one if that level has an odd size
            x = upsample(F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))
        return x
