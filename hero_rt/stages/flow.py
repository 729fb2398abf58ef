"""Estimates the dense optical flow of the source clip, for the flow encoder."""

from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hero_rt.errors import UsageError
from hero_rt.pixels import to_signed
from hero_rt.spec.canvas import Canvas
from hero_rt.stages.place import pixel_mask

# pixels: below 12 DIS refuses, and a 12x200 frame crashes the process (OpenCV 4.10 and 5.0)
MIN_SIDE = 16
_NO_TORCHVISION = "flow raft needs torchvision (pip install torchvision); dis needs nothing"


def optical_flow(frames: np.ndarray, method: Literal["dis", "raft"] = "dis") -> np.ndarray:
    """Return the flow from frame t to t+1, float32 [F, 2, h, w] (x, y) in pixels. The last repeats its predecessor.

    frames: uint8 [F, h, w, 3] RGB, before padding, because padded edges would corrupt the flow. A single frame has zero
    flow. "dis" is OpenCV's DIS (Kroeger et al. 2016) and has no weights. "raft" is torchvision's RAFT, if installed.
    Raises UsageError on other arrays, on frames under 16 px, and if RAFT or its weights are missing.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise UsageError(f"frames are {frames.dtype}{list(frames.shape)}, expected uint8[F, h, w, 3]")
    flow = np.zeros((len(frames), 2, *frames.shape[1:3]), np.float32)
    if len(frames) > 1:
        flow[:-1] = _dis(frames) if method == "dis" else _raft(frames)
        flow[-1] = flow[-2]
    return flow


def check_flow(method: Literal["dis", "raft"], width: int, height: int) -> None:
    """Raise UsageError if `method` does not run on this machine, or not on frames of this size."""
    if method == "raft" and find_spec("torchvision") is None:
        raise UsageError(_NO_TORCHVISION)
    if method == "dis" and min(width, height) < MIN_SIDE:
        raise UsageError(f"frames of {width}x{height} px are too small for optical flow ({MIN_SIDE} px at least)")


def flow_mask(flow: np.ndarray, canvas: Canvas, flow_scale: float | None = None) -> Tensor:
    """Return the flow encoder's input [F, 3, MH, MW]: flow x, flow y (zero where unknown), mask (1 = generate).

    Args:
        flow: Of the source in pixels, float32 [F, 2, h, w].
        canvas: Where the source lies.
        flow_scale: Pixels that become 1, the checkpoint's `flow_scale`. None divides x by MW and y by MH: the flow of
            common footage is then 0.004 to 0.016, too small beside a mask of 0 and 1.
    """
    out = torch.zeros(len(flow), 3, canvas.model_height, canvas.model_width)
    units = (canvas.model_width, canvas.model_height) if flow_scale is None else (flow_scale, flow_scale)
    size = torch.tensor(units).view(2, 1, 1)
    out[:, :2, *canvas.source] = torch.from_numpy(flow) / size
    out[:, 2:] = pixel_mask(canvas)
    return out


def _dis(frames: np.ndarray) -> np.ndarray:
    import cv2

    check_flow("dis", frames.shape[2], frames.shape[1])
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    flows = [dis.calc(first, second, None) for first, second in pairwise(grey)]
    return np.stack(flows).transpose(0, 3, 1, 2)


def _raft(frames: np.ndarray) -> np.ndarray:
    model = _raft_model()
    height, width = frames.shape[1:3]
    images = to_signed(frames)
    # RAFT takes multiples of 8, at least 128
    padding = [max(128, -(-size // 8) * 8) - size for size in (width, height)]
    images = torch.nn.functional.pad(images, (0, padding[0], 0, padding[1]), mode="replicate")
    with torch.inference_mode():
        flows = [model(first[None], second[None])[-1][0] for first, second in pairwise(images)]
    return torch.stack(flows)[:, :, :height, :width].numpy()


@cache  # a stream asks once a window
def _raft_model() -> Any:
    try:
        from torchvision.models.optical_flow import Raft_Large_Weights, raft_large
    except ImportError as error:
        raise UsageError(_NO_TORCHVISION) from error
    try:
        return raft_large(weights=Raft_Large_Weights.DEFAULT).eval()
    except (OSError, RuntimeError) as error:  # no network, or a download that does not match its hash
        raise UsageError(f"RAFT's weights cannot be loaded: {error}; flow method dis needs none") from error
