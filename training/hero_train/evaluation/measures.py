"""Computes metrics of the generated region. Known pixels are exact and do not count."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from transformers import CLIPVisionModelWithProjection

from hero_rt.errors import UsageError, first_line
from hero_rt.pixels import to_signed
from hero_rt.spec.canvas import Canvas
from hero_rt.stages.place import pixel_mask
from hero_rt.stages.prepare import clip_pixels

PEAK = 255.0
STILL = 0.1  # grey levels: the smallest change of the truth that is divided by
CLIP = "openai/clip-vit-large-patch14"
Metric = Callable[[np.ndarray, np.ndarray], float]  # frames, truth: uint8 [F, H, W, 3]
FVD_REASON = "its I3D network is published as TorchScript, which is code, and code is not loaded from a checkpoint"


def measure(frames: np.ndarray, truth: np.ndarray, canvas: Canvas) -> dict[str, float]:
    """Measure one clip. frames, truth: uint8 [F, H, W, 3], F > 1, H and W at least 11 (the SSIM window).

    Returns mse in squared grey levels; psnr in dB; ssim and adjacent_ssim in [-1, 1]; gradient_energy over the truth's;
    adjacent_ssim_truth, the same between the truth's own frames; flicker, the mean change between successive frames
    over the truth's: 1 is the truth's motion, more is flicker, less is a still picture.
    """
    region = pixel_mask(canvas)[0, : canvas.height, : canvas.width].bool()
    mse = float(np.square(frames.astype(np.float64) - truth)[:, region.numpy()].mean())
    return {
        "mse": mse,
        "psnr": float(10 * np.log10(PEAK**2 / mse)) if mse else float("inf"),
        "ssim": _ssim(frames, truth, region),
        "gradient_energy": gradient_energy(frames, region) / gradient_energy(truth, region),
        "adjacent_ssim": _ssim(frames[1:], frames[:-1], region),
        "adjacent_ssim_truth": _ssim(truth[1:], truth[:-1], region),
        "flicker": _change(frames, region) / max(_change(truth, region), STILL),
    }


def gradient_energy(frames: np.ndarray, region: Tensor) -> float:
    """Return the mean squared forward difference of the grey frames, over pixels with both neighbours inside."""
    grey = frames.astype(np.float64).mean(-1)
    dx, dy = grey[:, :-1, 1:] - grey[:, :-1, :-1], grey[:, 1:, :-1] - grey[:, :-1, :-1]
    inside = (region[:-1, :-1] & region[:-1, 1:] & region[1:, :-1]).numpy()
    return float((dx**2 + dy**2)[:, inside].mean())


def _change(frames: np.ndarray, region: Tensor) -> float:
    """Return the mean absolute difference of successive frames in the region, in grey levels."""
    return float(np.abs(np.diff(frames.astype(np.float64), axis=0))[:, region.numpy()].mean())


def _ssim(a: np.ndarray, b: np.ndarray, region: Tensor) -> float:
    """Return SSIM (Wang et al. 2004, Gaussian window of sigma 1.5) averaged over the region."""
    x, y = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() for frames in (a, b))
    _, image = structural_similarity_index_measure(x, y, data_range=PEAK, return_full_image=True)
    return float(image[:, :, region].mean())


def perceptual_metrics() -> tuple[dict[str, Metric], dict[str, str]]:
    """Return metrics by name, and the reason for each metric that is unavailable."""
    metrics: dict[str, Metric] = {}
    missing = {"fvd": FVD_REASON}
    for name, load in (("lpips", load_lpips), ("aafs", load_aafs)):
        try:
            metrics[name] = load()
        except UsageError as error:
            missing[name] = str(error)
    return metrics, missing


def load_lpips() -> Metric:
    """Load LPIPS (Zhang et al. 2018) on AlexNet by torchmetrics, a mean over frames. Raises UsageError."""
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        network = LearnedPerceptualImagePatchSimilarity(net_type="alex").eval()
    except (ImportError, OSError, RuntimeError) as error:  # torchvision is missing, or AlexNet cannot be downloaded
        raise UsageError(f"LPIPS needs torchvision and AlexNet's weights: {first_line(error)}") from error

    @torch.no_grad()
    def lpips(frames: np.ndarray, truth: np.ndarray) -> float:
        return float(network(to_signed(frames), to_signed(truth)))

    return lpips


def load_aafs(checkpoint: str = CLIP) -> Metric:
    """Load the average adjacent-frame similarity: cosine of CLIP embeddings of successive frames. Raises UsageError."""
    try:
        network = CLIPVisionModelWithProjection.from_pretrained(checkpoint, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise UsageError(f"AAFS needs {checkpoint}: {first_line(error)}") from error

    @torch.no_grad()
    def aafs(frames: np.ndarray, truth: np.ndarray) -> float:
        embeds = network(clip_pixels(to_signed(frames))).image_embeds
        return float(F.cosine_similarity(embeds[1:], embeds[:-1]).mean())

    return aafs
