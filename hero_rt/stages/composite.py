"""Composes the returned frame: generated pixels around the exact source."""

import numpy as np
from torch import Tensor

from hero_rt.errors import UsageError
from hero_rt.pixels import to_grey_levels
from hero_rt.spec.canvas import Canvas, check_frames
from hero_rt.stages.seam import close_seam


def composite(canvas: Canvas, generated: Tensor, source: np.ndarray, feather: int) -> np.ndarray:
    """Place the source in the generated frames.

    On the generated side, over `feather` pixels, the difference that the model left around the nearest source pixel is
    carried outward and faded out. So there is no step in colour at the seam, and no source pixel is smeared over it.

    Args:
        generated: [F, 3, MH, MW] in [-1, 1], on any device.
        source: uint8 [F, h, w, 3]; it comes back bit-exact.
        feather: pixels, at least 0.

    Returns: uint8 [F, H, W, 3].
    Raises: UsageError on other shapes.
    """
    check_frames(source, canvas.source_width, canvas.source_height, "source")
    expected = (len(source), 3, canvas.model_height, canvas.model_width)
    if generated.shape != expected:
        raise UsageError(f"generated frames are {list(generated.shape)}, expected {list(expected)}")
    rows, columns = canvas.source
    target = generated[:, :, : canvas.height, : canvas.width].float().clamp(-1, 1)  # on the device that made it
    if feather:
        close_seam(target, source, rows, columns, feather)
    out = to_grey_levels(target)
    out[:, rows, columns] = source
    return out
