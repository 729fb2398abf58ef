"""Adds noise to latents before decoding, so that texture changes when the scene moves."""

import numpy as np
import torch
from torch import Tensor

from hero_rt.noise import Purpose, frame_noise

STILL = 1.0  # px a frame of motion, below which the noise fades


def with_texture_noise(latents: Tensor, flow: np.ndarray, scale: float, seed: int, frames: range) -> Tensor:
    """Return latents [N, 4, h, w] plus Gaussian noise. Its deviation is `scale` for a moving frame, 0 for a still one.

    flow: float32 [N, 2, h', w'] in pixels; frames: their positions in the clip. The decoder draws equal texture from
    equal latents. When 8x8 pixels move by one pixel, their latents hardly change, so texture would stand still in a
    moving scene. Noise before decoding is from LTX-Video (2025). The median motion of a frame sets its amount.
    """
    if scale == 0:
        return latents
    motion = np.median(np.hypot(flow[:, 0], flow[:, 1]), axis=(1, 2))
    amount = torch.from_numpy(scale * np.minimum(motion / STILL, 1.0)).to(latents)
    noise = frame_noise(seed, Purpose.DECODE, frames, latents.shape[1:]).to(latents)
    return latents + amount[:, None, None, None] * noise
