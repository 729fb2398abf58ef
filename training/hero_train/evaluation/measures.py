"""Metrics over the generated region alone: the known pixels are exact in every method and would hide the rest."""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from hero_rt.spec.canvas import Canvas
from hero_rt.stages.place import pixel_mask

PEAK = 255.0
STILL = 0.1  # grey levels: a truth that changes less is taken to change so much


@dataclass(frozen=True)
class Quality:
    """Of one clip. mse in squared grey levels; psnr in dB; ssim and adjacent_ssim in [-1, 1]; gradient_energy over
    the truth's; adjacent_ssim_truth is the same between the truth's own frames; flicker is the mean change between
    successive frames over the truth's: 1 is the truth's motion, more is flicker, less is frozen."""

    mse: float
    psnr: float
    ssim: float
    gradient_energy: float
    adjacent_ssim: float
    adjacent_ssim_truth: float
    flicker: float

    def to_dict(self) -> dict[str, float]:
        return {name: round(value, 5) for name, value in asdict(self).items()}


def measure(frames: np.ndarray, truth: np.ndarray, canvas: Canvas) -> Quality:
    """frames, truth: uint8 [F, H, W, 3], F > 1, H and W at least 11 (the SSIM window)."""
    region = pixel_mask(canvas)[0, : canvas.height, : canvas.width].bool()
    mse = float(np.square(frames.astype(np.float64) - truth)[:, region.numpy()].mean())
    return Quality(
        mse=mse,
        psnr=float(10 * np.log10(PEAK**2 / mse)) if mse else float("inf"),
        ssim=_ssim(_floats(frames), _floats(truth), region),
        gradient_energy=gradient_energy(frames, region) / gradient_energy(truth, region),
        adjacent_ssim=_ssim(_floats(frames[1:]), _floats(frames[:-1]), region),
        adjacent_ssim_truth=_ssim(_floats(truth[1:]), _floats(truth[:-1]), region),
        flicker=_change(frames, region) / max(_change(truth, region), STILL),
    )


def gradient_energy(frames: np.ndarray, region: Tensor) -> float:
    """Mean squared forward difference of the grey frames, both directions, over pixels whose neighbours are inside."""
    grey = frames.astype(np.float64).mean(-1)
    dx, dy = grey[:, :-1, 1:] - grey[:, :-1, :-1], grey[:, 1:, :-1] - grey[:, :-1, :-1]
    inside = (region[:-1, :-1] & region[:-1, 1:] & region[1:, :-1]).numpy()
    return float((dx**2 + dy**2)[:, inside].mean())


def _change(frames: np.ndarray, region: Tensor) -> float:
    """Mean absolute difference of successive frames in the region, in grey levels."""
    return float(np.abs(np.diff(frames.astype(np.float64), axis=0))[:, region.numpy()].mean())


def _ssim(a: Tensor, b: Tensor, region: Tensor) -> float:
    """SSIM (Wang et al. 2004, Gaussian window of sigma 1.5) per pixel, averaged over the region."""
    _, image = structural_similarity_index_measure(a, b, data_range=PEAK, return_full_image=True)
    return float(image[:, :, region].mean())


def _floats(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float()
