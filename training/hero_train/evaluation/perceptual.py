"""Metrics by networks that must be fetched: used where their weights can be had, named with the reason where not."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPVisionModelWithProjection

from hero_rt.errors import UsageError
from hero_rt.pixels import to_signed
from hero_rt.stages.prepare import clip_pixels

CLIP = "openai/clip-vit-large-patch14"
Metric = Callable[[np.ndarray, np.ndarray], float]  # frames, truth: uint8 [F, H, W, 3]

FVD_REASON = "its I3D network is published as TorchScript, which is code, and code is not loaded from a checkpoint"


def perceptual_metrics() -> tuple[dict[str, Metric], dict[str, str]]:
    """(metrics by name, reason by name of those that cannot be had here)."""
    metrics: dict[str, Metric] = {}
    missing = {"fvd": FVD_REASON}
    for name, load in (("lpips", load_lpips), ("aafs", load_aafs)):
        try:
            metrics[name] = load()
        except UsageError as error:
            missing[name] = str(error)
    return metrics, missing


def load_lpips() -> Metric:
    """LPIPS (Zhang et al. 2018) on AlexNet, mean over frames, by torchmetrics. Raises UsageError."""
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        network = LearnedPerceptualImagePatchSimilarity(net_type="alex").eval()
    except (ImportError, OSError, RuntimeError) as error:  # no torchvision, or no network to fetch AlexNet by
        raise UsageError(f"LPIPS needs torchvision and AlexNet's weights: {_first_line(error)}") from error

    @torch.no_grad()
    def lpips(frames: np.ndarray, truth: np.ndarray) -> float:
        return float(network(to_signed(frames), to_signed(truth)))

    return lpips


def load_aafs(checkpoint: str = CLIP) -> Metric:
    """Average adjacent-frame similarity: cosine of successive frames' CLIP image embeddings. Raises UsageError."""
    try:
        network = CLIPVisionModelWithProjection.from_pretrained(checkpoint, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise UsageError(f"AAFS needs {checkpoint}: {_first_line(error)}") from error

    @torch.no_grad()
    def aafs(frames: np.ndarray, truth: np.ndarray) -> float:
        embeds = network(clip_pixels(to_signed(frames))).image_embeds
        return float(F.cosine_similarity(embeds[1:], embeds[:-1]).mean())

    return aafs


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
