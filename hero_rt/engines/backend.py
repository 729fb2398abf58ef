"""Which module runs which engine format, and what each must offer."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from hero_rt.engines.engine import Engine
from hero_rt.engines.manifest import Target
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import Specs

BACKENDS = {  # format: where its backend is, a module or an attribute of one
    "onnxruntime": "hero_rt.engines.onnxruntime",
    "tensorrt": "hero_rt.engines.tensorrt:TENSORRT",
    "tensorrt-rtx": "hero_rt.engines.tensorrt:TENSORRT_RTX",
    "aoti": "hero_rt.engines.aoti",
}


class Backend(Protocol):
    """One engine format on this machine; its libraries are imported in its module of hero_rt.engines."""

    def default_device(self) -> torch.device:
        """Where an engine of this format runs if nobody says."""

    def this_machine(self, device: torch.device) -> Target:
        """The library and the device as they are here. Raises EngineError where the library is missing."""

    def mismatch(self, built: Target, here: Target) -> str | None:
        """Why an engine built for `built` cannot run on `here`, in half a sentence; None where it can."""

    def open_engine(
        self, path: Path, inputs: Specs, outputs: Specs, workspace: Workspace, beside: Sequence[Path] = ()
    ) -> Engine:
        """beside: the files that it was built with and needs. Raises EngineError naming the file."""


def backend(format: str) -> Backend:
    """The backend of an engine format. Raises EngineError for a format that this version does not run."""
    if format not in BACKENDS:
        raise EngineError(f"engine format {format!r} cannot be run by this version; it runs {', '.join(BACKENDS)}")
    module, _, name = BACKENDS[format].partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found
