"""The statistics of a training window's noise against what its definition gives in closed form."""

import pytest
import torch

from hero_train.trainer import training_noise

DRAWS, FRAMES, SIZE = 4000, 8, 5
SHAPE = (DRAWS, FRAMES, 2, SIZE, SIZE)


def test_without_an_offset_it_is_white():
    noise = training_noise(SHAPE, 0.0, torch.Generator().manual_seed(3))
    assert torch.equal(noise, torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)))


def test_an_offset_is_shared_by_all_frames_and_bilinear_between_four_corners():
    """Variance and covariance of the mean over frames: 1/F of white noise, and the weights of the corners squared."""
    offset = 0.5
    noise = training_noise(SHAPE, offset, torch.Generator().manual_seed(0))
    means = noise.mean(1)  # [T, C, h, w]
    white = 1 / FRAMES
    assert float(means[..., 0, 0].var()) == pytest.approx(white + offset**2, rel=0.06)
    assert float(means[..., 2, 2].var()) == pytest.approx(white + offset**2 / 4, rel=0.06)  # a quarter of each corner
    corner, centre, opposite = means[..., 0, 0], means[..., 2, 2], means[..., 4, 4]
    assert float((corner * centre).mean()) == pytest.approx(offset**2 / 4, abs=0.012)
    assert float((corner * opposite).mean()) == pytest.approx(0, abs=0.012)
    assert float((means[:, 0, 0, 0] * means[:, 1, 0, 0]).mean()) == pytest.approx(0, abs=0.02)  # a channel each
    within = noise - noise.mean(1, keepdim=True)
    assert float(within.var()) == pytest.approx(1 - 1 / FRAMES, rel=0.01)
