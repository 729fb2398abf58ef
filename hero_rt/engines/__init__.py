"""What runs a submodule: one protocol, one module a backend. Nothing outside this folder names a vendor."""

from pathlib import Path

from hero_rt.engines.engine import Binding, Engine, EngineSet, Observer
from hero_rt.engines.manifest import Manifest, read_manifest

__all__ = ["Binding", "Engine", "EngineSet", "Manifest", "Observer", "open_engines", "read_manifest"]


def open_engines(folder: str | Path, device: str | None = None) -> EngineSet:
    """Open a folder written by `hero-export build-engines`, after checking it against its manifest.

    device: "cpu", "cuda" or "cuda:1"; by default what the format and this machine allow.
    Raises EngineError saying what differs and how to rebuild.
    """
    from hero_rt.engines.folder import EngineFolder

    return EngineFolder(Path(folder), device)
