"""Runs submodules. One protocol, and one module for each backend. Only this folder names vendors."""

from pathlib import Path

from hero_rt.engines.engine import Binding, Engine, EngineSet, Observer
from hero_rt.engines.manifest import Manifest, read_manifest

__all__ = ["Binding", "Engine", "EngineSet", "Manifest", "Observer", "open_engines", "read_manifest"]


def open_engines(folder: str | Path, device: str | None = None) -> EngineSet:
    """Check a folder that `hero-export build-engines` wrote against its manifest, and open it.

    Args:
        folder: the engine folder.
        device: "cpu", "cuda" or "cuda:1"; default: what the format and this machine allow.

    Raises:
        EngineError: the folder does not fit. The message says what differs and how to rebuild.
    """
    from hero_rt.engines.folder import EngineFolder

    return EngineFolder(Path(folder), device)
