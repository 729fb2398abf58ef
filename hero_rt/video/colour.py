"""Chooses the matrix between RGB and YUV. Written files name it; for files that name none it is assumed."""

from dataclasses import dataclass

from av.video.reformatter import Colorspace

UNSPECIFIED = 2  # H.273


@dataclass(frozen=True)
class Matrix:
    """`code`: primaries, transfer and matrix as ITU-T H.273 numbers them; `colorspace`: swscale's name."""

    code: int
    colorspace: Colorspace


BT601 = Matrix(6, Colorspace.SMPTE170M)
BT709 = Matrix(1, Colorspace.ITU709)


def customary_matrix(width: int, height: int) -> Matrix:
    """Return the matrix that players assume for an untagged file: BT.709 for high definition, upright or turned."""
    return BT709 if min(width, height) >= 720 or max(width, height) >= 1280 else BT601
