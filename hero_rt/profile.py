"""The shapes that an engine is built for: canvas, window and guidance, written 256x256x16-cfg."""

import re
from dataclasses import dataclass

from hero_rt.errors import UsageError

_NAME = re.compile(r"(\d+)x(\d+)x(\d+)(-cfg)?")


@dataclass(frozen=True)
class Profile:
    """One static shape: canvas of `width` x `height` pixels (multiples of 8), `frames` a window, guidance or not."""

    width: int
    height: int
    frames: int
    guided: bool = False

    def __post_init__(self) -> None:
        if self.width % 8 or self.height % 8 or min(self.width, self.height) < 8:
            raise UsageError(
                f"profile {self}: width and height must be positive multiples of 8, the latent cell; "
                f"use {-(-self.width // 8) * 8 or 8}x{-(-self.height // 8) * 8 or 8}"
            )
        if not 2 <= self.frames <= 32:
            raise UsageError(f"profile {self}: {self.frames} frames; temporal attention takes 2 to 32")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}{'-cfg' if self.guided else ''}"

    @classmethod
    def parse(cls, text: str) -> "Profile":
        """From WxHxF or WxHxF-cfg. Raises UsageError."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise UsageError(f"profile {text!r} is not WIDTHxHEIGHTxFRAMES[-cfg], for instance 256x256x16-cfg")
        return cls(int(match[1]), int(match[2]), int(match[3]), match[4] is not None)

    @property
    def guidance_rows(self) -> int:
        """G: 2 with classifier-free guidance (uncond, cond), 1 without."""
        return 2 if self.guided else 1
