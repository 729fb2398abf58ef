"""The small image encoders: a padded canvas must be told from others by what its whole scene looks like (InfoNCE)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hero_rt.pixels import to_signed
from hero_rt.stages.place import place_source
from hero_rt.stages.prepare import clip_pixels
from hero_train.tasks import random_task
from hero_train.videos import VideoWindows

TEMPERATURE = 0.1


def contrastive_loss(encoder: nn.Module, canvases: Tensor, wholes: Tensor) -> tuple[Tensor, float]:
    """InfoNCE (van den Oord et al. 2018) between canvases [N, 3, 224, 224] and the whole frames they were cut from.

    Both ways round, as CLIP does. Returns the loss and the share of canvases whose nearest whole frame is their own.
    """
    first, second = (F.normalize(encoder(pixels).image_embeds, dim=-1) for pixels in (canvases, wholes))
    logits = first @ second.T / TEMPERATURE
    own = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    return loss, float((logits.argmax(1) == own).float().mean())


def view_pairs(windows: VideoWindows, first: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` pairs from windows first, first + 1, ...: (canvases, whole frames), each [count, 3, 224, 224].

    The canvas is of one end of the window, the whole frame of the other: what moves is not what tells a scene.
    """
    canvases, wholes = [], []
    for index in range(first, first + count):
        window, _ = windows[index]
        rng = np.random.default_rng((windows.seed, index, 1))
        canvas = random_task(window.shape[2], window.shape[1], rng).canvas
        canvases.append(place_source(canvas, canvas.source_of(window[:1])))
        wholes.append(to_signed(window[-1:]))
    return clip_pixels(torch.cat(canvases)), clip_pixels(torch.cat(wholes))
