"""Removes the step in colour at the seam between known and generated pixels."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hero_rt.pixels import to_signed


def close_seam(frames: Tensor, source: np.ndarray, rows: slice, columns: slice, feather: int) -> None:
    """Correct the generated side by the error at the nearest source pixel, in place. It fades over `feather` pixels.

    frames: [F, 3, H, W] in [-1, 1], any device; source: uint8 [F, h, w, 3], the true pixels of [rows, columns];
    feather: at least 1 px. Pixels at [rows, columns] do not change. A nearest source pixel lies on one of the four
    edges, so only the edges are read.
    """
    height, width = frames.shape[2:]
    reach = feather // 2 + 1  # px from the edge inwards
    h, w = source.shape[1:3]
    y, x = torch.arange(height, device=frames.device), torch.arange(width, device=frames.device)
    near_y, near_x = y.clamp(rows.start, rows.stop - 1), x.clamp(columns.start, columns.stop - 1)
    distance = torch.maximum((y - near_y).abs()[:, None], (x - near_x).abs()[None])
    # half a cosine: 1 at the seam, 0 at feather + 1 px
    weight = 0.5 + 0.5 * torch.cos(torch.pi * distance.clamp(max=feather + 1) / (feather + 1))

    def left_by_the_model(part_rows: slice, part_columns: slice) -> Tensor:
        known = to_signed(source[:, part_rows, part_columns]).to(frames.device)
        return known - frames[:, :, rows, columns][:, :, part_rows, part_columns]

    whole = slice(None)
    beside = slice(max(0, columns.start - feather), columns.stop + feather)
    along_x, along_y = near_x[beside] - columns.start, near_y[rows] - rows.start
    above, below = slice(max(0, rows.start - feather), rows.start), slice(rows.stop, rows.stop + feather)
    left, right = slice(beside.start, columns.start), slice(columns.stop, columns.stop + feather)
    first, last_row, last_column = slice(0, reach), slice(max(0, h - reach), h), slice(max(0, w - reach), w)
    for strip, inside, axis, index in (
        ((above, beside), (first, whole), 2, along_x),
        ((below, beside), (last_row, whole), 2, along_x),
        ((rows, left), (whole, first), 3, along_y),
        ((rows, right), (whole, last_column), 3, along_y),
    ):
        part = frames[:, :, *strip]
        if part.numel():
            edge = _edge_mean(left_by_the_model(*inside), axis, reach - 1).index_select(5 - axis, index)
            part += weight[*strip] * edge
            part.clamp_(-1, 1)


def _edge_mean(x: Tensor, across: int, radius: int) -> Tensor:
    """Return the mean of [F, C, h, w] over the axis `across`, and over `radius` to each side along the other axis.

    The difference of a single pixel is mostly texture that the VAE lost. It would draw a streak on the generated side.
    The mean holds only the shift in colour.
    """
    kernel = (1, 2 * radius + 1) if across == 2 else (2 * radius + 1, 1)
    padding = (kernel[0] // 2, kernel[1] // 2)
    return F.avg_pool2d(x.mean(across, keepdim=True), kernel, 1, padding, count_include_pad=False)
