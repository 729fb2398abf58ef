"""Defines the shapes that an engine is built for: canvas, window and guidance, written 256x256x16-cfg."""

import re
from dataclasses import dataclass, replace

from hero_rt.errors import UsageError

SUBMODULES = ("vae_encoder", "semantic", "refnet", "flow_encoder", "unet_step", "vae_decoder")
_NAME = re.compile(r"(\d+)x(\d+)x(\d+)(-cfg)?")
_RANGE = re.compile(r"(\d+x\d+)\.\.(\d+x\d+)\.\.(\d+x\d+)(x\d+(?:-cfg)?)")
_SMALLEST_FREE_SIDE = 72  # pixels: below, the deepest level has one row, which torch.export takes for a constant


@dataclass(frozen=True)
class Profile:
    """One static shape, written WxHxF or WxHxF-cfg.

    Attributes:
        width: of the canvas in pixels, a multiple of 8.
        height: of the canvas in pixels, a multiple of 8.
        frames: of a window, 2 to 32.
        guided: with classifier-free guidance.

    Raises:
        UsageError: a size that is not possible.
    """

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
        """Make a profile from WxHxF or WxHxF-cfg. Raises UsageError."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise UsageError(f"profile {text!r} is not WIDTHxHEIGHTxFRAMES[-cfg], for instance 256x256x16-cfg")
        return cls(int(match[1]), int(match[2]), int(match[3]), match[4] is not None)

    @property
    def guidance_rows(self) -> int:
        """The number of guidance rows: 2 with classifier-free guidance (uncond, cond), 1 without."""
        return 2 if self.guided else 1

    def of(self, submodule: str) -> "Profile":
        """Return the profile of a submodule's engine. Only the denoising step depends on guidance."""
        return self if submodule == "unet_step" else replace(self, guided=False)

    @property
    def shapes(self) -> tuple["Profile", ...]:
        """The static shapes that represent the profile: the profile itself."""
        return (self,)

    def covers(self, profile: "Profile") -> bool:
        return self == profile


@dataclass(frozen=True)
class ProfileRange:
    """A range of canvases, written 128x128..256x256..512x512x16-cfg. The three sizes are trtexec's min, opt and max.

    Only width and height vary, or one of the two.

    Attributes:
        smallest: the smallest canvas.
        typical: the canvas that engines are optimised for.
        largest: the largest canvas.

    Raises:
        UsageError: the sizes are not in order, are all equal, or start below 72 pixels on a side that varies.
    """

    smallest: Profile
    typical: Profile
    largest: Profile

    def __post_init__(self) -> None:
        for side in ("width", "height"):
            low, middle, high = (getattr(profile, side) for profile in self.shapes)
            if not low <= middle <= high:
                raise UsageError(f"profile {self}: {side}s {low}, {middle}, {high} are not smallest, typical, largest")
            if low < high and low < _SMALLEST_FREE_SIDE:
                raise UsageError(
                    f"profile {self}: a {side} that varies starts at {_SMALLEST_FREE_SIDE} pixels, not {low}; build "
                    "smaller canvases as a profile each"
                )
        if self.smallest == self.largest:
            raise UsageError(f"profile {self} has one size; write {self.largest}")

    def __str__(self) -> str:
        low, middle, high = (f"{profile.width}x{profile.height}" for profile in self.shapes)
        return f"{low}..{middle}..{high}x{self.frames}{'-cfg' if self.guided else ''}"

    @property
    def frames(self) -> int:
        return self.typical.frames

    @property
    def guided(self) -> bool:
        return self.typical.guided

    def of(self, submodule: str) -> "ProfileRange":
        """Return the range of a submodule's engine. Only the denoising step depends on guidance."""
        return ProfileRange(*(shape.of(submodule) for shape in self.shapes))

    @property
    def shapes(self) -> tuple[Profile, ...]:
        """The static shapes that represent the range: smallest, typical, largest."""
        return (self.smallest, self.typical, self.largest)

    def covers(self, profile: Profile) -> bool:
        return (
            (self.frames, self.guided) == (profile.frames, profile.guided)
            and self.smallest.width <= profile.width <= self.largest.width
            and self.smallest.height <= profile.height <= self.largest.height
        )


AnyProfile = Profile | ProfileRange


def parse_profile(text: str) -> AnyProfile:
    """Parse a profile, or a range if `text` contains "..". Raises UsageError."""
    if ".." not in text:
        return Profile.parse(text)
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"profile {text!r} is not WIDTHxHEIGHT..WIDTHxHEIGHT..WIDTHxHEIGHTxFRAMES[-cfg] (smallest, typical, "
            "largest), for instance 128x128..256x256..512x512x16"
        )
    return ProfileRange(*(Profile.parse(size + match[4]) for size in match.group(1, 2, 3)))
