"""The noise of a training window, with the slow drift that a sampler's own errors have."""

import torch
import torch.nn.functional as F
from torch import Tensor

CORNERS = 2  # values a side that an offset is interpolated between


def training_noise(shape: tuple[int, int, int, int, int], offset: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise [T, F, C, h, w] and on it a smooth field, the same in all frames, of up to `offset` deviation.

    White noise has almost no mean over a region and all frames, so a model learns to believe the mean that it sees
    there. At inference that mean holds the errors of the steps before, and a wrong colour is not only kept but grows
    (exposure bias). Noise that has such a mean too teaches it to ask the known pixels instead. As diffusers'
    `--noise_offset` (Guttenberg 2023), which is one value a channel; here it may differ from corner to corner.
    """
    noise = torch.randn(shape, generator=generator)
    if offset:
        count, _, channels, *size = shape
        corners = torch.randn(count, channels, CORNERS, CORNERS, generator=generator)
        field = F.interpolate(corners, size, mode="bilinear", align_corners=True)
        noise += offset * field[:, None]
    return noise
