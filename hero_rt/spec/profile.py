"""The shapes that an engine is built for: canvas, window and guidance, written 256x256x16-cfg."""

import re
from dataclasses import dataclass, replace

from hero_rt.errors import UsageError

SUBMODULES = ("vae_encoder", "semantic", "refnet", "flow_encoder", "unet_step", "vae_decoder")
_NAME = re.compile(r"(\d+)x(\d+)x(\d+)(-cfg)?")
_RANGE = re.compile(r"(\d+x\d+)\.\.(\d+x\d+)\.\.(\d+x\d+)(x\d+(?:-cfg)?)")
_SMALLEST_FREE_SIDE = 72  # pixels: below, the deepest level has one row, which torch.export takes for a constant


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

    def of(self, submodule: str) -> "Profile":
        """Under which a submodule's engine is kept: all but the denoising step ignore guidance."""
        return self if submodule == "unet_step" else replace(self, guided=False)

    @property
    def shapes(self) -> tuple["Profile", ...]:
        """The static shapes that stand for it: itself."""
        return (self,)

    def covers(self, profile: "Profile") -> bool:
        return self == profile


@dataclass(frozen=True)
class ProfileRange:
    """A dynamic shape, written 128x128..256x256..512x512x16-cfg: any canvas from `smallest` to `largest`.

    `typical` is what engines are optimised for (trtexec's minShapes, maxShapes and optShapes). Window and guidance are
    one value; a side may be. Raises UsageError.
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
        """As `Profile.of`."""
        return ProfileRange(*(shape.of(submodule) for shape in self.shapes))

    @property
    def shapes(self) -> tuple[Profile, ...]:
        """The static shapes that stand for it: smallest, typical, largest."""
        return (self.smallest, self.typical, self.largest)

    def covers(self, profile: Profile) -> bool:
        return (
            (self.frames, self.guided) == (profile.frames, profile.guided)
            and self.smallest.width <= profile.width <= self.largest.width
            and self.smallest.height <= profile.height <= self.largest.height
        )


AnyProfile = Profile | ProfileRange


def parse_profile(text: str) -> AnyProfile:
    """A profile, or a range of them where `text` holds "..". Raises UsageError."""
    if ".." not in text:
        return Profile.parse(text)
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"profile {text!r} is not WIDTHxHEIGHT..WIDTHxHEIGHT..WIDTHxHEIGHTxFRAMES[-cfg] (smallest, typical, "
            "largest), for instance 128x128..256x256..512x512x16"
        )
    return ProfileRange(*(Profile.parse(size + match[4]) for size in match.group(1, 2, 3)))
