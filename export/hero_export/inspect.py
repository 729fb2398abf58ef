"""What an engine folder holds: the manifest, and what is inside each engine, as far as each format tells."""

import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from pydantic import BaseModel

from hero_rt.engines import read_manifest
from hero_rt.engines.backend import backend
from hero_rt.engines.manifest import EngineRecord, Manifest, Target, check_files
from hero_rt.engines.tensorrt import BACKENDS as TENSORRTS
from hero_rt.errors import EngineError, HeroError

_ATTENTION = re.compile(r"attention|attn|mha|softmax|fmha|_sdpa|PLUGIN_V3", re.IGNORECASE)


class EngineInspection(BaseModel):
    """One engine. Bytes and counts; what a format does not tell is None or empty."""

    engine: str
    file: str
    file_bytes: int
    weights_bytes: int  # beside the file, or by the builder's count
    activation_bytes: int | None
    weights_by_type: dict[str, int]
    operators: dict[str, int]  # of the graph that it was made from
    layers: dict[str, int]  # of what runs it: TensorRT's network, the package's kernels, the ONNX graph itself
    attention: list[str]  # what computes attention, by the library's own names
    build_seconds: float
    peak_memory_bytes: int
    parity: dict[str, Any] | None


class FolderInspection(BaseModel):
    """What `hero-export inspect --json` writes."""

    folder: str
    model: str
    format: str
    dtype: str
    checkpoint: str
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
        format=manifest.format,
        dtype=manifest.dtype,
        checkpoint=manifest.checkpoint,
        target=manifest.target,
        runs_here=_runs_here(manifest),
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
    return "\n".join(f"{engine.file}\n{_layers(folder, manifest, engine)}" for engine in engines)


def _inspect(folder: Path, manifest: Manifest, engine: EngineRecord) -> EngineInspection:
    contents = engine.contents
    operators = contents.get("operators", {})
    if manifest.format == "aoti":
        layers = package_kernels(folder / engine.file)
        names = list(layers)
    elif manifest.format in TENSORRTS:
        layers, names = contents["network"], [*contents["network"], *contents["layers"]]
    else:
        layers, names = operators, list(operators)
    return EngineInspection(
        engine=f"{engine.submodule} {engine.profile}",
        file=engine.file,
        file_bytes=manifest.files[engine.file].bytes,
        weights_bytes=sum(manifest.files[name].bytes for name in engine.weights)
        or contents.get("device_weights_bytes", 0),
        activation_bytes=contents.get("activation_bytes"),
        weights_by_type=contents.get("weights_by_type", {}),
        operators=operators,
        layers=layers,
        attention=sorted({name for name in names if _ATTENTION.search(name)}),
        build_seconds=engine.build_seconds,
        peak_memory_bytes=engine.peak_memory_bytes,
        parity=engine.parity,
    )


def _runs_here(manifest: Manifest) -> str:
    try:
        chosen = backend(manifest.format)
        difference = chosen.mismatch(manifest.target, chosen.this_machine(chosen.default_device()))
    except EngineError as error:
        return str(error)
    return difference or "yes"


def package_kernels(path: Path) -> dict[str, int]:
    """Kernels of an AOTInductor package by name, counted where its generated code calls them."""
    with zipfile.ZipFile(path) as package:
        sources = [name for name in package.namelist() if name.endswith(".wrapper.cpp")]
        text = "\n".join(package.read(name).decode() for name in sources)
    names = r"aoti_torch_(?:cpu|cuda)_\w+|cpp_\w*fused_\w+"
    calls = re.findall(rf"\b({names})\s*\(|^\s+call_(\w+)\(", text, re.MULTILINE)  # call_: a Triton launcher
    return dict(Counter(name or kernel for name, kernel in calls).most_common())


def _layers(folder: Path, manifest: Manifest, engine: EngineRecord) -> str:
    try:
        from polygraphy import config
        from polygraphy.backend.onnx.util import str_from_onnx
    except ImportError as error:
        raise HeroError("inspect --layers needs polygraphy: pip install 'hero-runtime[tensorrt]'") from error
    path = folder / engine.file
    if manifest.format == "onnxruntime":
        return str_from_onnx(onnx.load(path, load_external_data=False), show_layers=True)
    if manifest.format == "aoti":
        return "\n".join(f"    {count:5d} {name}" for name, count in package_kernels(path).items())
    if (reason := _runs_here(manifest)) != "yes":
        return "\n".join([f"as its builder logged them ({reason}):", *engine.contents["layers"]])
    config.USE_TENSORRT_RTX = manifest.format == "tensorrt-rtx"
    from polygraphy.backend.common import BytesFromPath
    from polygraphy.backend.trt import EngineFromBytes
    from polygraphy.backend.trt.util import str_from_engine

    plan = EngineFromBytes(BytesFromPath(str(path)))()
    return str_from_engine(plan, plan.create_execution_context(), show_layers=True, show_attrs=True)
