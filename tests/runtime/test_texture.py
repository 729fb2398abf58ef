"""Noise before decoding: none for a still scene, the whole of it for one that moves, the generator's own."""

import numpy as np
import pytest
import torch

from hero_rt.stages.texture import with_texture_noise


def flow_of(*pixels_a_frame: float) -> np.ndarray:
    """Level motion, and a quarter of each frame that moves otherwise: the median does not hear of it."""
    flow = np.zeros((len(pixels_a_frame), 2, 8, 8), np.float32)
    flow[:, 0] = np.array(pixels_a_frame)[:, None, None]
    flow[:, 1, :4, :4] = 30
    return flow


def test_noise_is_as_large_as_the_frame_moves():
    latents = torch.zeros(4, 4, 64, 64)
    noisy = with_texture_noise(latents, flow_of(0, 0.5, -1, 8), 0.06, 0, range(4))
    assert noisy.std(dim=(1, 2, 3)).tolist() == pytest.approx([0, 0.03, 0.06, 0.06], rel=0.03)
    again = with_texture_noise(latents, flow_of(0, 0.5, -1, 8), 0.06, 0, range(4))
    assert torch.equal(noisy, again)


def test_a_checkpoint_without_it_keeps_its_latents():
    latents = torch.randn(2, 4, 8, 8)
    assert with_texture_noise(latents, flow_of(8, 8), 0.0, 0, range(2)) is latents


def test_a_frame_gets_the_same_noise_in_whatever_window_it_is_decoded():
    latents, flow = torch.zeros(8, 4, 8, 8), flow_of(*[5] * 8)
    whole = with_texture_noise(latents, flow, 0.06, 7, range(20, 28))
    assert torch.equal(whole[3:], with_texture_noise(latents[3:], flow[3:], 0.06, 7, range(23, 28)))
