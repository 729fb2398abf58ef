"""HERO runtime: video outpainting with PyTorch or compiled engines.

>>> from hero_rt import Outpainter
>>> Outpainter.from_engines("engines")("clip.mp4", task="OPV", ratio=0.25).save("wide.mp4")
"""

import importlib
from typing import TYPE_CHECKING

from hero_rt.errors import Cancelled, EngineError, HeroError, ParityError, UsageError, VideoError

if TYPE_CHECKING:
    from hero_rt.outpainter import Outpainter as Outpainter
    from hero_rt.output import OutpaintOutput as OutpaintOutput
    from hero_rt.output import OutpaintStream as OutpaintStream
    from hero_rt.request import OutpaintRequest as OutpaintRequest
    from hero_rt.request import OutputOptions as OutputOptions
    from hero_rt.session import OutpaintSession as OutpaintSession
    from hero_rt.spec.canvas import Canvas as Canvas

__version__ = "0.1.0"
_MODULES = {
    "Canvas": "spec.canvas",
    "OutpaintOutput": "output",
    "OutpaintRequest": "request",
    "OutpaintSession": "session",
    "OutpaintStream": "output",
    "Outpainter": "outpainter",
    "OutputOptions": "request",
}
__all__ = ["Cancelled", "EngineError", "HeroError", "ParityError", "UsageError", "VideoError", "__version__", *_MODULES]


def __getattr__(name: str) -> object:
    # lazy, so that a bare import and `hero-rt --help` do not load PyTorch
    if name in _MODULES:
        return getattr(importlib.import_module(f"hero_rt.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
