"""What an engine folder holds: the manifest, and what is inside each engine, as far as each format tells."""

import re
from pathlib import Path

from pydantic import BaseModel

from hero_export.builders import find_builder
from hero_rt.engines import read_manifest
from hero_rt.engines.backend import backend
from hero_rt.engines.manifest import BuildSpec, EngineRecord, Manifest, Target, check_files
from hero_rt.errors import EngineError

_ATTENTION = re.compile(r"attention|attn|mha|softmax|fmha|_sdpa|PLUGIN_V3", re.IGNORECASE)


def computes_attention(name: str) -> bool:
    """Tell by the name of an operator, a layer or a kernel."""
    return _ATTENTION.search(name) is not None


class EngineInspection(EngineRecord):
    """One engine: its record in the manifest, and what is inside. Bytes and counts."""

    file_bytes: int
    weights_bytes: int  # beside the file, or by the builder's count
    layers: dict[str, int]  # of what runs it: TensorRT's network, the package's kernels, the ONNX graph itself
    attention: list[str]  # what computes attention, by the library's own names


class FolderInspection(BaseModel):
    """What `hero-export inspect --json` writes."""

    folder: str
    model: str
    build: BuildSpec
    target: Target
    runs_here: str  # yes, or why not
    engines: list[EngineInspection]


def inspect_folder(folder: Path) -> FolderInspection:
    """Check every file, and tell what is inside; needs no GPU. Raises EngineError."""
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return FolderInspection(
        folder=str(folder),
        model=manifest.config.name,
        build=manifest.build,
        target=manifest.target,
        runs_here=_why_not_here(manifest) or "yes",
        engines=[_inspect(folder, manifest, engine) for engine in manifest.engines],
    )


def layer_listing(folder: Path, submodule: str) -> str:
    """Every layer of one submodule's engines, as polygraphy prints them.

    A plan is opened for it, which needs its GPU; without one, the layers are those that its builder logged.
    Raises EngineError, HeroError where polygraphy is missing.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    engines = [engine for engine in manifest.engines if engine.submodule == submodule]
    if not engines:
        held = ", ".join(sorted({engine.submodule for engine in manifest.engines}))
        raise EngineError(f"{folder} has no {submodule} engine; it holds {held}")
    builder, why_not = find_builder(manifest.build.format), _why_not_here(manifest)
    return "\n".join(
        f"{engine.file}\n{builder.layer_listing(folder / engine.file, engine, why_not)}" for engine in engines
    )


def _inspect(folder: Path, manifest: Manifest, engine: EngineRecord) -> EngineInspection:
    layers, names = find_builder(manifest.build.format).inspect(folder / engine.file, engine.contents)
    return EngineInspection(
        **engine.model_dump(),
        file_bytes=manifest.files[engine.file].bytes,
        weights_bytes=sum(manifest.files[name].bytes for name in engine.weights)
        or engine.contents.get("device_weights_bytes", 0),
        layers=layers,
        attention=sorted(filter(computes_attention, set(names))),
    )


def _why_not_here(manifest: Manifest) -> str | None:
    try:
        chosen = backend(manifest.build.format)
        return chosen.mismatch(manifest.target, chosen.this_machine(chosen.default_device()))
    except EngineError as error:
        return str(error)
