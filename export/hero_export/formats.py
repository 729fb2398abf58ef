"""Making one engine of each format: what runs in the fresh process of one build."""

import functools
import hashlib
import json
import resource
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from hero_export.aoti import compile_aoti
from hero_export.checkpoint import Checkpoint
from hero_export.onnx import OPSET, export_onnx
from hero_kernels.onnx import function_digest
from hero_rt import __version__
from hero_rt.engines.backend import backend
from hero_rt.engines.manifest import DTYPES, EngineRecord, FileRecord, Target, record_of, tensor_records
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import submodule_io
from hero_rt.profile import Profile

SUFFIXES = {"onnxruntime": ".onnx", "aoti": ".pt2"}


@dataclass(frozen=True)
class BuildSettings:
    """What a build is asked for, apart from the shapes."""

    checkpoint: Checkpoint
    format: str = "onnxruntime"
    dtype: str = "fp32"
    device: str | None = None
    max_autotune: bool = False

    @property
    def target(self) -> Target:
        """The library and the device that engines are built with. Raises EngineError where it is missing."""
        chosen = backend(self.format)
        return chosen.this_machine(torch.device(self.device) if self.device else chosen.default_device())

    def file_name(self, submodule: str, profile: Profile) -> str:
        return f"{submodule}.{profile}{SUFFIXES[self.format]}"


class FinishedEngine(BaseModel):
    """An engine that is whole, and the files that it consists of."""

    engine: EngineRecord
    files: dict[str, FileRecord]

    def intact(self, folder: Path) -> bool:
        """Whether every file is still what was built."""
        return all(
            (folder / name).is_file() and record_of(folder / name) == record for name, record in self.files.items()
        )


def build_engine(settings: BuildSettings, submodule: str, profile: Profile, path: Path, key: str) -> FinishedEngine:
    """Make one engine at `path`, with the record that the manifest keeps of it."""
    make = {"onnxruntime": _build_onnx, "aoti": _build_aoti}[settings.format]
    # an ONNX graph is the same wherever it is traced; a compiled package is for the device that it is traced on
    model = settings.checkpoint.load(DTYPES[settings.dtype], _trace_device(settings))
    weights, seconds, flags = make(settings, model, submodule, profile, path)
    inputs, outputs = submodule_io(submodule, model.config, profile, model.dtype)
    engine = EngineRecord(
        submodule=submodule,
        profile=str(profile),
        file=path.name,
        weights=[file.name for file in weights],
        inputs=tensor_records(inputs),
        outputs=tensor_records(outputs),
        build_key=key,
        build_seconds=round(seconds, 2),
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        build_flags=flags,
    )
    return FinishedEngine(engine=engine, files={file.name: record_of(file) for file in (path, *weights)})


def build_key(settings: BuildSettings, submodule: str, profile: Profile, model: dict[str, Any], weights: str) -> str:
    """SHA-256 of all that determines an engine: equal keys, equal engines."""
    determining = {
        "submodule": submodule,
        "profile": str(profile),
        "format": settings.format,
        "dtype": settings.dtype,
        "flags": {"opset": OPSET} if settings.format == "onnxruntime" else {"max_autotune": settings.max_autotune},
        "target": settings.target.model_dump() if settings.format != "onnxruntime" else None,
        "model": model,
        "weights": weights,
        "kernel": function_digest(),
        "versions": versions(),
        "tool": __version__,
        "sources": _source_digest(),
    }
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of everything that shapes a graph."""
    return {package: version(package) for package in ("torch", "onnx", "onnxscript", "diffusers", "transformers")}


_Made = tuple[list[Path], float, dict[str, Any]]  # weight files beside the engine, seconds, build flags
_Maker = Callable[[BuildSettings, HeroModel, str, Profile, Path], _Made]


def _build_onnx(settings: BuildSettings, model: HeroModel, submodule: str, profile: Profile, path: Path) -> _Made:
    done = export_onnx(model, submodule, profile, path)
    return [done.weights], done.seconds, {"opset": OPSET, "nodes": done.nodes, "hero_nodes": done.hero_nodes}


def _build_aoti(settings: BuildSettings, model: HeroModel, submodule: str, profile: Profile, path: Path) -> _Made:
    done = compile_aoti(model, submodule, profile, path, settings.max_autotune)
    return [], done.seconds, {"max_autotune": settings.max_autotune, "nodes": done.nodes}


def _trace_device(settings: BuildSettings) -> str:
    if settings.format == "onnxruntime":
        return "cpu"
    return settings.device or str(backend(settings.format).default_device())


@functools.cache
def _source_digest() -> str:
    """SHA-256 of the model's, the exporter's and the kernels' sources: a changed network is another engine."""
    import hero_export
    import hero_kernels
    import hero_rt.models

    roots = [Path(module.__file__ or "").parent for module in (hero_rt.models, hero_export, hero_kernels)]
    digest = hashlib.sha256()
    for path in sorted(path for root in roots for path in root.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
