"""Fills the unknown pixels of a canvas before the VAE encodes it: with grey, or with content of the clip itself.

"propagated" fills a pixel from another frame of the window that shows the same place of the scene. One camera motion
for each frame pair finds the place. This is the image propagation of flow-guided video completion (Gao et al. 2020,
ProPainter 2023), with a global motion, because the flow of unknown pixels is unknown. A place that no frame shows
continues its nearest known pixel. The mask still says "generate": the fill is a hint to the model, not a result.
"""

from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from hero_rt.pixels import to_grey_levels, to_signed
from hero_rt.spec.canvas import Canvas

GRID = 6  # px between the flow vectors that a camera motion is fitted to
MAX_RESIDUAL = 10.0  # mean grey levels between two frames' common known pixels; above, their motion is not believed
MIN_GAIN = 2.0  # how much better than no motion it must explain them: in flat scenes any motion would do
MIN_OVERLAP = 0.2  # of the source, that two frames must both show for that comparison to mean something


def propagated(frames: Tensor, known: Tensor, flow: np.ndarray, canvas: Canvas) -> Tensor:
    """Return the canvas with every unknown pixel filled.

    frames: [F, 3, MH, MW] in [-1, 1]; known: bool [F, MH, MW], at least one pixel a frame; flow: float32
    [F, 2, h, w] of the source, frame t to t+1 in pixels. Returns [F, 3, MH, MW]; known pixels come back as they were.
    """
    pixels = to_grey_levels(frames)
    to_first = _to_first_frame(flow, canvas)
    filled = np.stack([_filled(index, pixels, known.numpy(), to_first) for index in range(len(pixels))])
    return torch.where(known[:, None], frames, to_signed(filled))


def camera_motion(flow: np.ndarray) -> np.ndarray:
    """Fit the similarity (turn, zoom, shift) that explains most of a flow field [2, h, w]. Returns [3, 3], t to t+1."""
    height, width = flow.shape[1:]
    y, x = (axis.ravel() for axis in np.mgrid[GRID // 2 : height : GRID, GRID // 2 : width : GRID])
    start = np.stack([x, y], axis=1).astype(np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(start, start + flow[:, y, x].T, method=cv2.RANSAC, ransacReprojThreshold=1)
    return np.eye(3) if matrix is None else np.vstack([matrix, [0.0, 0.0, 1.0]])


def _to_first_frame(flow: np.ndarray, canvas: Canvas) -> list[np.ndarray]:
    """Return [3, 3] for each frame, which maps its canvas pixels to canvas pixels of the first frame."""
    shift = np.array([[1.0, 0.0, canvas.left], [0.0, 1.0, canvas.top], [0.0, 0.0, 1.0]])
    chain = [np.eye(3)]
    for field, _ in pairwise(flow):  # the last frame's flow only repeats
        chain.append(chain[-1] @ np.linalg.inv(shift @ camera_motion(field) @ np.linalg.inv(shift)))
    return chain


def _filled(index: int, frames: np.ndarray, known: np.ndarray, to_first: list[np.ndarray]) -> np.ndarray:
    image, have = frames[index].copy(), known[index].copy()
    size = (image.shape[1], image.shape[0])
    # nearest in time first: the chained motion drifts, and moving objects have moved least
    for other in sorted(range(len(frames)), key=lambda i: abs(i - index))[1:]:
        if have.all():
            return image
        matrix = (np.linalg.inv(to_first[other]) @ to_first[index])[:2]
        shown = cv2.warpAffine(
            known[other].astype(np.uint8), matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        ).astype(bool)
        if not (shown & ~have).any():
            continue
        warped = cv2.warpAffine(frames[other], matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        if _agree(warped, frames[other], frames[index], shown & known[other] & known[index], known[index]):
            new = shown & ~have
            image[new], have[new] = warped[new], True
    return _continued(image, have)


def _agree(warped: np.ndarray, other: np.ndarray, frame: np.ndarray, common: np.ndarray, known: np.ndarray) -> bool:
    count = np.count_nonzero(common)
    if count < MIN_OVERLAP * np.count_nonzero(known):
        return False
    mask = common.astype(np.uint8)
    moved, still = (cv2.norm(image, frame, cv2.NORM_L1, mask) / (3 * count) for image in (warped, other))
    return bool(moved <= MAX_RESIDUAL and MIN_GAIN * moved <= still)


def _continued(image: np.ndarray, have: np.ndarray) -> np.ndarray:
    if have.all():
        return image
    _, labels = cv2.distanceTransformWithLabels(
        (~have).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.empty((labels.max() + 1, 3), np.uint8)
    colours[labels[have]] = image[have]
    return colours[labels]
