"""Names the module that runs each engine format, and defines what such a module offers."""

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

BACKENDS = {  # format: module of its backend, or module:attribute
    "onnxruntime": "hero_rt.engines.onnxruntime",
    "tensorrt": "hero_rt.engines.tensorrt:TENSORRT",
    "tensorrt-rtx": "hero_rt.engines.tensorrt:TENSORRT_RTX",
    "aoti": "hero_rt.engines.aoti",
}


class Backend(Protocol):
    """Runs one engine format on this machine. Only its module of hero_rt.engines imports its libraries."""

    def default_device(self) -> torch.device:
        """Return the device of engines of this format if the user names none."""

    def this_machine(self, device: torch.device) -> Target:
        """Return the library and the device of this machine. Raises EngineError if the library is missing."""

    def mismatch(self, built: Target, here: Target) -> str | None:
        """Return why an engine built for `built` cannot run on `here`, as half a sentence. None if it can."""

    def open_engine(
        self, path: Path, inputs: Specs, outputs: Specs, workspace: Workspace, beside: Sequence[Path] = ()
    ) -> Engine:
        """Open an engine file. `beside` are further files that it needs. Raises EngineError, which names the file."""


def backend(format: str) -> Backend:
    """Return the backend of an engine format. Raises EngineError for a format that this version does not run."""
    if format not in BACKENDS:
        raise EngineError(f"engine format {format!r} cannot be run by this version; it runs {', '.join(BACKENDS)}")
    module, _, name = BACKENDS[format].partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found
