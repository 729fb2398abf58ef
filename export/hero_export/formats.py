"""Making one engine of each format: what runs in the fresh process of one build."""

import ctypes
import functools
import gc
import hashlib
import json
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from hero_export.aoti import check_compiler, compile_aoti
from hero_export.checkpoint import Checkpoint
from hero_export.onnx import OPSET, OnnxExport, export_onnx
from hero_export.plan_options import PlanOptions, check_options
from hero_export.plugin import library_path, resolve_plugin
from hero_export.tensorrt import ShapeRanges, build_plan
from hero_export.tensorrt_log import Progress
from hero_kernels.onnx import function_digest
from hero_rt import __version__
from hero_rt.engines.backend import backend
from hero_rt.engines.manifest import DTYPES, EngineRecord, FileRecord, Target, record_of, sha256_of, tensor_records
from hero_rt.engines.tensorrt import BACKENDS as TENSORRTS
from hero_rt.spec.boundary import FREE, submodule_boundary, submodule_io
from hero_rt.spec.profile import AnyProfile, Profile

SUFFIXES = {"onnxruntime": ".onnx", "aoti": ".pt2", "tensorrt": ".plan", "tensorrt-rtx": ".plan"}


@dataclass(frozen=True)
class BuildSettings:
    """What a build is asked for, apart from the shapes.

    plan: of the two TensorRTs; plugin: what plan.plugin means on this machine, filled in by `resolved`.
    """

    checkpoint: Checkpoint
    format: str = "onnxruntime"
    dtype: str = "fp32"
    device: str | None = None
    max_autotune: bool = False
    plan: PlanOptions = field(default_factory=PlanOptions)
    plugin: str = "off"

    def resolved(self) -> "BuildSettings":
        """With targets and plugin that were left open filled in.

        Raises UsageError or HeroError for what cannot be built here.
        """
        if self.format == "aoti":
            check_compiler()
        if self.format not in TENSORRTS:
            return self
        has_gpu = torch.cuda.is_available()
        gpu = "sm_{}{}".format(*torch.cuda.get_device_capability()) if has_gpu else None
        plan = check_options(self.format, TENSORRTS[self.format].module(), self.plan, gpu)
        return replace(self, plan=plan, plugin=resolve_plugin(self.format, plan.plugin))

    @property
    def target(self) -> Target:
        """The library and the device that engines are built with. Raises EngineError where it is missing."""
        if self.format in TENSORRTS:
            return self._plan_target()
        chosen = backend(self.format)
        return chosen.this_machine(torch.device(self.device) if self.device else chosen.default_device())

    def _plan_target(self) -> Target:
        chosen, plan = TENSORRTS[self.format], self.plan
        if plan.compute_capability:
            target = chosen.library()
            target.compute_capabilities = list(plan.compute_capability)
        else:
            target = chosen.this_machine(chosen.default_device())
        if plan.hardware_compatibility_level == "ampere_plus":
            target.compute_capabilities = ["sm_80+"]
        target.version_compatible = plan.version_compatible
        return target

    @property
    def options(self) -> str:
        """Options of the build command beyond checkpoint, format, dtype, profiles and folder."""
        own = {"--device": self.device, "--max-autotune": self.max_autotune}
        parts = [flag if value is True else f"{flag} {value}" for flag, value in own.items() if value]
        return " ".join([*parts, self.plan.arguments]).strip()

    @property
    def flags(self) -> dict[str, Any]:
        """What of these settings determines an engine, beside target, weights and dtype."""
        if self.format == "aoti":
            return {"max_autotune": self.max_autotune}
        if self.format in TENSORRTS:
            library = sha256_of(library_path()) if self.plugin == "library" else None
            return {"opset": OPSET, **self.plan.flags(), "plugin": self.plugin, "plugin_sha256": library}
        return {"opset": OPSET}

    def file_name(self, submodule: str, profile: AnyProfile) -> str:
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


def build_engine(
    settings: BuildSettings, submodule: str, profile: AnyProfile, path: Path, key: str, progress: Progress
) -> FinishedEngine:
    """Make one engine at `path`, in a folder of its own, with the record that the manifest keeps of it."""
    made = _MAKERS[settings.format](settings, submodule, profile, path, progress)
    config = settings.checkpoint.load().config  # sizes only: no part is made
    inputs, outputs = submodule_boundary(submodule, config, profile, DTYPES[settings.dtype])
    engine = EngineRecord(
        submodule=submodule,
        profile=str(profile),
        file=path.name,
        weights=[file.name for file in made.beside],
        inputs=tensor_records(inputs),
        outputs=tensor_records(outputs),
        build_key=key,
        build_seconds=round(made.seconds, 2),
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        build_flags=settings.flags,
        contents=made.contents,
    )
    return FinishedEngine(engine=engine, files={file.name: record_of(file) for file in (path, *made.beside)})


def build_key(settings: BuildSettings, submodule: str, profile: AnyProfile, model: dict[str, Any], weights: str) -> str:
    """SHA-256 of all that determines an engine: equal keys, equal engines."""
    determining = {
        "submodule": submodule,
        "profile": str(profile),
        "format": settings.format,
        "dtype": settings.dtype,
        "flags": settings.flags,
        # an ONNX graph is the same wherever it is traced
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


@dataclass(frozen=True)
class _Made:
    seconds: float
    contents: dict[str, Any]
    beside: tuple[Path, ...] = ()  # files that the engine needs


def _make_onnx(settings: BuildSettings, submodule: str, profile: AnyProfile, path: Path, progress: Progress) -> _Made:
    done = _export(settings, submodule, profile, path, for_onnxruntime=True)
    return _Made(done.seconds, _graph_contents(done), (done.weights,))


def _make_aoti(settings: BuildSettings, submodule: str, profile: AnyProfile, path: Path, progress: Progress) -> _Made:
    assert isinstance(profile, Profile)  # ranges are refused before anything is built
    device = settings.device or str(backend("aoti").default_device())
    model = settings.checkpoint.load(DTYPES[settings.dtype], device)  # a package is for the device it is traced on
    done = compile_aoti(model, submodule, profile, path, settings.max_autotune)
    return _Made(done.seconds, {"nodes": done.nodes, "operators": done.operators})


def _make_plan(settings: BuildSettings, submodule: str, profile: AnyProfile, path: Path, progress: Progress) -> _Made:
    graph = _export(settings, submodule, profile, path.with_suffix(".onnx"))
    progress("export", 1, 1)
    _give_back_memory()
    trt = TENSORRTS[settings.format].module()
    ranges = _ranges(settings, submodule, profile)
    plan = build_plan(trt, graph.path, path, settings.plan, settings.plugin, progress, ranges)
    contents = _graph_contents(graph) | {
        "onnx_sha256": sha256_of(graph.path),
        "export_seconds": round(graph.seconds, 2),
        "network": plan.network,
        "layers": plan.layers,
        **plan.memory,
        "warnings": plan.warnings,
    }
    beside: tuple[Path, ...] = ()
    if settings.plan.strip_plan:  # the runtime takes the weights from the graph
        beside = (graph.path, graph.weights)
    if settings.plugin == "library":
        copy = path.parent / f"libhero_plugin-{sha256_of(library_path())[:16]}.so"
        beside = (*beside, Path(shutil.copyfile(library_path(), copy)))
    return _Made(graph.seconds + plan.seconds, contents, beside)


_MAKERS: dict[str, Callable[[BuildSettings, str, AnyProfile, Path, Progress], _Made]] = {
    "onnxruntime": _make_onnx,
    "aoti": _make_aoti,
    "tensorrt": _make_plan,
    "tensorrt-rtx": _make_plan,
}


def _ranges(settings: BuildSettings, submodule: str, profile: AnyProfile) -> ShapeRanges:
    config, dtype = settings.checkpoint.load().config, DTYPES[settings.dtype]
    boundary, _ = submodule_boundary(submodule, config, profile, dtype)
    at = [submodule_io(submodule, config, shape, dtype)[0] for shape in profile.shapes]
    return {name: [inputs[name].shape for inputs in at] for name, spec in boundary.items() if FREE in spec.shape}


def _export(
    settings: BuildSettings, submodule: str, profile: AnyProfile, path: Path, for_onnxruntime: bool = False
) -> OnnxExport:
    return export_onnx(settings.checkpoint.load(DTYPES[settings.dtype]), submodule, profile, path, for_onnxruntime)


def _graph_contents(graph: OnnxExport) -> dict[str, Any]:
    return {
        "nodes": graph.nodes,
        "hero_nodes": graph.hero_nodes,
        "operators": graph.operators,
        "weights_by_type": graph.weights_by_type,
    }


def _give_back_memory() -> None:
    """PyTorch's freed weights to the system, before a builder wants as much."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@functools.cache
def _source_digest() -> str:
    """SHA-256 of the model's, the exporter's and the kernels' sources: a changed network is another engine."""
    import hero_export
    import hero_kernels
    import hero_rt.models
    import hero_rt.spec

    roots = [Path(module.__file__ or "").parent for module in (hero_rt.models, hero_rt.spec, hero_export, hero_kernels)]
    digest = hashlib.sha256()
    for path in sorted(path for root in roots for path in root.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
