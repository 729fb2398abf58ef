"""Reads a folder of images as a clip."""

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hero_rt.errors import VideoError
from hero_rt.video.source import VideoSource

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class ImageFolder(VideoSource):
    """Images of one size in natural order: frame10 comes after frame9."""

    def __init__(self, folder: Path, frame_rate: Fraction):
        self._paths = sorted(
            (
                path
                for path in folder.iterdir()
                if path.suffix.lower() in IMAGE_SUFFIXES
                and not path.name.startswith(".")  # ._1.png: macOS leaves these
            ),
            key=_natural_order,
        )
        if not self._paths:
            raise VideoError(f"folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        self.frame_rate, self.num_frames = frame_rate, len(self._paths)
        self.height, self.width = self._read(self._paths[0]).shape[:2]

    def frames(self) -> Iterator[np.ndarray]:
        for path in self._paths:
            frame = self._read(path)
            if frame.shape[:2] != (self.height, self.width):
                raise VideoError(
                    f"{path} is {frame.shape[1]}x{frame.shape[0]}, {self._paths[0].name} is "
                    f"{self.width}x{self.height}; all images of a clip must have one size"
                )
            yield frame

    @staticmethod
    def _read(path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise VideoError(f"{path} has more than 8 bits a channel ({image.mode}); convert it to 8-bit RGB")
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's broken PNG is a SyntaxError
            raise VideoError(f"{path} cannot be read as an image: {error}") from error


def _natural_order(path: Path) -> list[tuple[str, int]]:
    """Return a sort key that puts frame9 before frame10: text and numbers in turn."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(text, int(number)) for text, number in zip_longest(parts[::2], parts[1::2], fillvalue="0")]
