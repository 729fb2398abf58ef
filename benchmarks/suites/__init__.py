"""Lists the suites."""

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hero_rt.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.context import Context
    from benchmarks.schema import Case

SUITES = {
    "kernels": "the fused temporal attention against eager, compiled and a copy",
    "unet-step": "one denoising step by every contender",
    "end-to-end": "one window, frames to frames: latency to the first, phases, memory",
    "caching": "what the cache saves: nothing, raw features or projections cached",
    "long-video": "cost and memory against the number of frames",
    "callers": "1, 2 and 4 sessions at once on one outpainter",
    "cold-start": "in a fresh process, from opening engines to the first window",
}


_MODULES = {"kernels": "kernels", "unet-step": "steps", "caching": "steps"}  # the other suites time clips


def find_suite(name: str) -> Callable[["Context"], Iterator["Case"]]:
    """Return the generator of a suite, which yields each measured case. Raises UsageError."""
    if name not in SUITES:
        raise UsageError(f"unknown suite {name!r}; known: {', '.join(SUITES)}")
    module = importlib.import_module(f"benchmarks.suites.{_MODULES.get(name, 'clips')}")
    return getattr(module, name.replace("-", "_"))
