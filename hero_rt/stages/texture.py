"""Texture that changes as the scene moves: noise on the latents that are decoded."""

import numpy as np
import torch
from torch import Tensor

from hero_rt.noise import Purpose, frame_noise

STILL = 1.0  # px a frame of motion, below which the noise fades


def with_texture_noise(latents: Tensor, flow: np.ndarray, scale: float, seed: int, frames: range) -> Tensor:
    """latents [N, 4, h, w] plus Gaussian noise of deviation `scale` where a frame moves, none where it is still.

    flow: float32 [N, 2, h', w'] in pixels; frames: their positions in the clip. A decoder that draws texture draws the
    same again from the same latents, and eight by eight pixels that move by one hardly change theirs: the texture would
    stand still in a scene that moves. Noise before decoding is LTX-Video's (2025); each frame gets as much of it as its
    median motion asks for.
    """
    if scale == 0:
        return latents
    motion = np.median(np.hypot(flow[:, 0], flow[:, 1]), axis=(1, 2))
    amount = torch.from_numpy(scale * np.minimum(motion / STILL, 1.0)).to(latents)
    noise = frame_noise(seed, Purpose.DECODE, frames, latents.shape[1:]).to(latents)
    return latents + amount[:, None, None, None] * noise
