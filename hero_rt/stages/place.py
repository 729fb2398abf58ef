"""Places frames and masks on a canvas, as the networks take them."""

import numpy as np
import torch
from torch import Tensor

from hero_rt.pixels import to_signed
from hero_rt.spec.canvas import Canvas, check_frames
from hero_rt.spec.config import VAE_SCALE


def place_source(canvas: Canvas, frames: np.ndarray) -> Tensor:
    """Place source frames, uint8 [F, h, w, 3], on [F, 3, MH, MW] in [-1, 1]. Unknown pixels are 0."""
    check_frames(frames, canvas.source_width, canvas.source_height, "source")
    out = torch.zeros(len(frames), 3, canvas.model_height, canvas.model_width)
    out[:, :, *canvas.source] = to_signed(frames)
    return out


def place_finished(canvas: Canvas, frames: np.ndarray) -> Tensor:
    """Place outpainted frames, uint8 [F, H, W, 3], on [F, 3, MH, MW] in [-1, 1]. Every pixel is known.

    The strip beyond the target repeats the target's edge. No frame holds that strip, but the masks of outpainted frames
    say that every cell is known.
    """
    check_frames(frames, canvas.width, canvas.height, "finished")
    edge = (0, canvas.model_width - canvas.width, 0, canvas.model_height - canvas.height)
    return torch.nn.functional.pad(to_signed(frames), edge, mode="replicate")


def pixel_mask(canvas: Canvas) -> Tensor:
    """Return the mask [1, MH, MW], 1 = generate."""
    mask = torch.ones(1, canvas.model_height, canvas.model_width)
    mask[:, *canvas.source] = 0
    return mask


def latent_mask(canvas: Canvas) -> Tensor:
    """Return the mask [1, MH/8, MW/8], 1 = generate. A cell is known only if all its 8x8 pixels are known."""
    return torch.nn.functional.max_pool2d(pixel_mask(canvas), VAE_SCALE)
