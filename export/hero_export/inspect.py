"""Inspects an engine folder: its manifest, and the content of each engine as far as its format shows it."""

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
    """Return whether an operator, a layer or a kernel computes attention, by its name."""
    return _ATTENTION.search(name) is not None


class EngineInspection(EngineRecord):
    """The record of one engine in the manifest, and its content in bytes and counts."""

    file_bytes: int
    weights_bytes: int  # of the files beside it, or by the builder's count
    layers: dict[str, int]  # of TensorRT's network, the package's kernels, or the ONNX graph
    attention: list[str]  # operators, layers or kernels that compute attention


class FolderInspection(BaseModel):
    """The content of a folder, as `hero-export inspect --json` writes it."""

    folder: str
    model: str
    build: BuildSpec
    target: Target
    runs_here: str  # yes, or no: and why
    engines: list[EngineInspection]


def inspect_folder(folder: Path) -> FolderInspection:
    """Check every file of an engine folder, and return its content. No GPU is needed.

    Raises:
        EngineError: the folder does not exist, its manifest is not valid, or a file differs from it.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    why_not = _why_not_here(manifest)
    return FolderInspection(
        folder=str(folder),
        model=manifest.config.name,
        build=manifest.build,
        target=manifest.target,
        runs_here="yes" if why_not is None else f"no: {why_not}",
        engines=[_inspect(folder, manifest, engine) for engine in manifest.engines],
    )


def layer_listing(folder: Path, submodule: str) -> str:
    """Return every layer of one submodule's engines, as polygraphy prints them.

    A plan is opened, which needs its GPU. Without the GPU, the layers are those that the builder logged.

    Raises:
        EngineError: the folder has no engine of `submodule`.
        HeroError: polygraphy is missing.
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
