"""HERO runtime: video outpainting with PyTorch or compiled engines.

>>> from hero_rt import Outpainter
>>> result = Outpainter.from_engines("engines")("clip.mp4", task="OPV", ratio=0.25)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hero_rt.outpainter import Outpainter, OutpaintOutput

__version__ = "0.1.0"
__all__ = ["OutpaintOutput", "Outpainter", "__version__"]


def __getattr__(name: str) -> object:
    # lazily: `hero-rt --help` and a bare import need not wait for torch
    if name in ("Outpainter", "OutpaintOutput"):
        from hero_rt import outpainter

        return getattr(outpainter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
