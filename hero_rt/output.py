"""What an outpainter returns, in the type that was asked for."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from hero_rt.spec.canvas import Canvas

OutputType = Literal["np", "pt", "pil", "latent"]


@dataclass(frozen=True)
class OutpaintOutput:
    """An outpainted clip.

    frames: uint8 [N, H, W, 3] RGB ("np"), FP32 [N, 3, H, W] in [0, 1] ("pt"), a list of PIL images ("pil"), or clean
    latents FP32 [N, 4, h, w] ("latent"). frame_rate: the source's. canvas: where the source lies in the frames.
    """

    frames: Any
    frame_rate: Fraction
    canvas: Canvas


def as_type(frames: np.ndarray, output_type: OutputType) -> Any:
    """uint8 [N, H, W, 3] as `output_type` ("latent" excepted)."""
    if output_type == "np":
        return frames
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in frames]
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
