"""Defines the position of the source in the frame to fill."""

from dataclasses import dataclass

import numpy as np

from hero_rt.errors import UsageError
from hero_rt.spec.config import VAE_SCALE

TASKS = {"OPC": "all four sides", "OPV": "left and right", "OPH": "top and bottom"}
MAX_SIDE = 16384  # pixels: the H.264 encoder takes no larger frame, and its memory would not either
ANCHORS = {  # share of the padding that goes to the left and to the top
    "center": (0.5, 0.5),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "top-left": (0.0, 0.0),
    "top-right": (1.0, 0.0),
    "bottom-left": (0.0, 1.0),
    "bottom-right": (1.0, 1.0),
}


@dataclass(frozen=True)
class Canvas:
    """A source with pixels to generate on each side. All values are pixels.

    The target is source plus padding. The model sees it extended at the right and bottom to multiples of 8, the latent
    cell. The extension is generated and then cropped from the result.
    """

    source_width: int
    source_height: int
    top: int
    right: int
    bottom: int
    left: int

    def __post_init__(self) -> None:
        sides = {"top": self.top, "right": self.right, "bottom": self.bottom, "left": self.left}
        for side, pixels in sides.items():
            if pixels < 0:
                raise UsageError(f"padding {side} is {pixels}; padding must not be negative (crop the clip first)")
        if not any(sides.values()):
            raise UsageError(
                f"target {self.width}x{self.height} equals the source: nothing to generate; ask for more pixels"
            )

        if max(self.width, self.height) > MAX_SIDE:
            raise UsageError(f"target {self.width}x{self.height} is larger than {MAX_SIDE} pixels a side; ask for less")

    @classmethod
    def from_size(
        cls, width: int, height: int, target_width: int, target_height: int, anchor: str = "center"
    ) -> "Canvas":
        """Make a canvas of a target size. `anchor` places the source: center, top, bottom-right, ..."""
        if target_width < width or target_height < height:
            raise UsageError(
                f"target {target_width}x{target_height} is smaller than the source {width}x{height}; "
                "outpainting only grows a frame: ask for at least the source's size, or scale the clip down first"
            )
        if anchor not in ANCHORS:
            raise UsageError(f"anchor {anchor!r} is not one of {', '.join(ANCHORS)}")
        x, y = ANCHORS[anchor]
        left, top = int((target_width - width) * x), int((target_height - height) * y)
        return cls(width, height, top, target_width - width - left, target_height - height - top, left)

    @classmethod
    def from_aspect(cls, width: int, height: int, ratio: float, anchor: str = "center") -> "Canvas":
        """Make the smallest canvas of width / height = `ratio` that holds the source."""
        target = (round(height * ratio), height) if width < height * ratio else (width, round(width / ratio))
        return cls.from_size(width, height, *target, anchor=anchor)

    @classmethod
    def from_task(cls, width: int, height: int, task: str, ratio: float) -> "Canvas":
        """Make the canvas of a task of the paper.

        The padding is split evenly. An odd pixel goes right or down. A width of 192 at OPV 0.25 becomes
        256 = 32 + 192 + 32.

        Args:
            width: of the source.
            height: of the source.
            task: OPC, OPV or OPH.
            ratio: generated fraction of the target's extent, per axis.

        Raises:
            UsageError: an unknown task, or a ratio that is not between 0 and 1.
        """
        if task not in TASKS:
            known = "; ".join(f"{name}: {sides}" for name, sides in TASKS.items())
            raise UsageError(f"task {task!r} is not one of {known}")
        if not 0 < ratio < 1:
            raise UsageError(f"ratio {ratio} is the generated fraction of the target and lies between 0 and 1")
        target_width = round(width / (1 - ratio)) if task in ("OPC", "OPV") else width
        target_height = round(height / (1 - ratio)) if task in ("OPC", "OPH") else height
        return cls.from_size(width, height, target_width, target_height)

    @property
    def width(self) -> int:
        return self.left + self.source_width + self.right

    @property
    def height(self) -> int:
        return self.top + self.source_height + self.bottom

    @property
    def model_width(self) -> int:
        return -(-self.width // VAE_SCALE) * VAE_SCALE

    @property
    def model_height(self) -> int:
        return -(-self.height // VAE_SCALE) * VAE_SCALE

    @property
    def ratio(self) -> float:
        """The generated fraction of the width or of the height, whichever is larger."""
        return max(1 - self.source_width / self.width, 1 - self.source_height / self.height)

    def describe(self) -> str:
        return (
            f"{self.source_width}x{self.source_height} to {self.width}x{self.height} "
            f"(top {self.top}, right {self.right}, bottom {self.bottom}, left {self.left})"
        )

    @property
    def source(self) -> tuple[slice, slice]:
        """Rows and columns of the target that hold the source."""
        return slice(self.top, self.top + self.source_height), slice(self.left, self.left + self.source_width)

    def source_of(self, whole: np.ndarray) -> np.ndarray:
        """Return the source's part of whole frames [F, H, W, 3] as a view [F, h, w, 3]."""
        return whole[:, *self.source]


def check_frames(frames: np.ndarray, width: int, height: int, what: str) -> None:
    """Raise UsageError unless `frames` are uint8 [F, height, width, 3]."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (height, width, 3):
        raise UsageError(
            f"{what} frames are {frames.dtype}{list(frames.shape)}, expected uint8[F, {height}, {width}, 3]"
        )
