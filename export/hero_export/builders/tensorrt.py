"""Builds formats tensorrt and tensorrt-rtx: plans, with the options of polygraphy and trtexec."""

import ctypes
import gc
import re
import shutil
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from hero_export.builders.builder import Builder, BuilderOptions, EngineJob, FormatStatus, Made, graph_contents
from hero_export.builders.onnxruntime import polygraphy_util
from hero_rt.errors import EngineError, UsageError

if TYPE_CHECKING:
    from hero_rt.engines.manifest import Target

_MODULE_PATH = re.compile(r"\w+(?:\.\w+)+/?")
_TIMING = ("load_timing_cache", "save_timing_cache")
# without a device TensorRT-RTX fails late and unclearly with these options
_NEEDS_DEVICE = ("refittable", "strip_plan", "version_compatible", "hardware_compatibility_level")


class TensorRTOptions(BuilderOptions):
    """The options of plans. Without a limit, a spatio-temporal UNet has asked for 64 GiB of workspace."""

    panel = "TensorRT and TensorRT-RTX"

    pool_limit: str = Field("workspace:8G", description="Scratch for tactics: workspace:SIZE with K, M or G.")
    builder_optimization_level: int | None = Field(None, ge=0, le=5, description="Default: the library's.")
    load_timing_cache: Path | None = Field(None, description="File of measured tactics to start from.")
    save_timing_cache: Path | None = Field(None, description="Write measured tactics here; added to what it holds.")
    hardware_compatibility_level: Literal["none", "ampere_plus", "same_compute_capability"] = Field(
        "none", description="none, ampere_plus or same_compute_capability."
    )
    version_compatible: bool = Field(False, description="Plans run on later library versions too.")
    strip_plan: bool = Field(False, description="Weights stay in one file, out of the plans.")
    refittable: bool = Field(False, description="Weights can be replaced.")
    compute_capabilities: tuple[str, ...] = Field(
        (), description="Targets, 8.9 12.0 or sm_89 sm_120 (TensorRT-RTX). Default: this GPU's."
    )
    plugin: Literal["auto", "python", "library", "off"] = Field(
        "auto", description="Temporal attention: auto, python, library or off."
    )
    verbose: bool = Field(False, description="Print all that the library logs.")

    @field_validator("compute_capabilities")
    @classmethod
    def _names(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        names = [name for text in given for name in re.split(r"[,\s]+", text) if name]
        for name in names:
            if re.fullmatch(r"sm_\d+|\d+\.\d", name) is None:
                raise ValueError(f"{name!r} is not of the form 8.9 or sm_89")
        return tuple(name if name.startswith("sm_") else "sm_" + name.replace(".", "") for name in names)

    @model_validator(mode="after")
    def _workspace_is_a_size(self) -> Self:
        _ = self.workspace
        return self

    @property
    def workspace(self) -> int:
        """Bytes."""
        match = re.fullmatch(r"workspace:(\d+(?:\.\d+)?)([KMG]?)", self.pool_limit)
        if match is None:
            raise ValueError(f"--pool-limit {self.pool_limit!r} is not workspace:SIZE, for instance workspace:8G")
        size = int(float(match[1]) * 1024 ** " KMG".index(match[2] or " "))
        if size < 1 << 20:
            raise ValueError(
                f"--pool-limit {self.pool_limit!r} is {size} bytes, below 1M; write for instance workspace:8G"
            )
        return size


class TensorRTBuilder(Builder):
    """Builds plans with one of the two libraries. TensorRT-RTX needs no GPU if targets are named."""

    suffix = ".plan"
    Options = TensorRTOptions
    default_dtype = "fp16"

    def __init__(self, format: str):
        self.format = format

    def resolve(self, options: TensorRTOptions) -> TensorRTOptions:
        from hero_export.plugin import resolve_plugin

        checked = check_options(self.format, options, _present_gpu())
        plugin = resolve_plugin(self.format, checked.plugin)
        self.backend().module()  # last: an option is refused without the library too
        return checked.model_copy(update={"plugin": plugin})

    def notes(self, options: TensorRTOptions) -> list[str]:
        from hero_export.plugin import explain

        return [explain(self.format, options.plugin)]

    def target(self, options: TensorRTOptions) -> "Target":
        chosen = self.backend()
        if options.compute_capabilities:
            target = chosen.library()
            target.compute_capabilities = list(options.compute_capabilities)
        else:
            target = chosen.this_machine(chosen.default_device())
        if options.hardware_compatibility_level == "ampere_plus":
            target.compute_capabilities = ["sm_80+"]
        target.version_compatible = options.version_compatible
        return target

    def flags(self, options: TensorRTOptions) -> dict[str, Any]:
        from hero_export.onnx import OPSET
        from hero_export.plugin import library_path
        from hero_rt.engines.manifest import sha256_of

        # a timing cache only saves measuring again
        own = options.model_dump(mode="json", exclude={*_TIMING, "verbose"})
        library = sha256_of(library_path()) if options.plugin == "library" else None
        return {"opset": OPSET, **own, "tf32": False, "plugin_sha256": library}

    def environment(self) -> AbstractContextManager[None]:
        from hero_export.plugin import loader_path

        return loader_path(self.format)

    def make(self, job: EngineJob) -> Made:
        from hero_export.plugin import library_path
        from hero_export.tensorrt_plan import build_plan
        from hero_rt.engines.manifest import sha256_of

        graph = job.export(job.path.with_suffix(".onnx"), "inlined" if job.options.plugin == "off" else "standard")
        job.progress("export", 1, 1)
        _give_back_memory()
        plan = build_plan(
            self.backend().module(), graph.path, job.path, job.options, job.options.plugin, job.progress, graph.ranges
        )
        contents = graph_contents(graph) | {
            "onnx_sha256": sha256_of(graph.path),
            "export_seconds": round(graph.seconds, 2),
            "network": plan.network,
            "layers": plan.layers,
            **plan.memory,
            "warnings": plan.warnings,
        }
        beside: tuple[Path, ...] = ()
        if job.options.strip_plan:  # the runtime takes the weights from the graph
            beside = (graph.path, graph.weights)
        if job.options.plugin == "library":
            copy = job.path.parent / f"libhero_plugin-{sha256_of(library_path())[:16]}.so"
            beside = (*beside, Path(shutil.copyfile(library_path(), copy)))
        return Made(contents, beside)

    def inspect(self, path: Path, contents: dict[str, Any]) -> tuple[dict[str, int], list[str]]:
        # a layer's name lists nodes, MODULE.PATH/Operator: a projection of an attention module is no attention
        operators = [_MODULE_PATH.sub("", layer) for layer in contents["layers"]]
        return contents["network"], [*contents["network"], *operators]

    def layer_listing(self, path: Path, engine: Any, why_not_here: str | None) -> str:
        if why_not_here is not None:  # a plan is opened for it, which needs its GPU
            return "\n".join([f"as its builder logged them ({why_not_here}):", *engine.contents["layers"]])
        util = polygraphy_util("trt")
        from polygraphy import config
        from polygraphy.backend.common import BytesFromPath
        from polygraphy.backend.trt import EngineFromBytes

        config.USE_TENSORRT_RTX = self.format == "tensorrt-rtx"
        plan = EngineFromBytes(BytesFromPath(str(path)))()
        return util.str_from_engine(plan, plan.create_execution_context(), show_layers=True, show_attrs=True)

    def status(self) -> FormatStatus:
        targets: list[str] = []
        missing = None
        try:
            targets = rtx_targets() if self.format == "tensorrt-rtx" else []
            gpu = self.backend().this_machine(self.backend().default_device()).compute_capabilities[0]
            check_options(self.format, TensorRTOptions(), gpu)
        except (EngineError, UsageError) as error:  # this GPU may be none of its targets
            missing = str(error)
        runs_on, builds = ["cuda"] if missing is None else [], bool(targets) or missing is None
        return FormatStatus(format=self.format, runs_on=runs_on, builds=builds, targets=targets, missing=missing)


def rtx_targets() -> list[str]:
    """Return the GPUs that TensorRT-RTX builds for: sm_75, ... Raises EngineError without the library."""
    from hero_rt.engines.tensorrt import TENSORRT_RTX

    names = TENSORRT_RTX.module().ComputeCapability.__members__
    return [f"sm_{number}" for number in sorted({int(name[2:]) for name in names if name.startswith("SM")})]


def check_options(format: str, options: TensorRTOptions, gpu: str | None) -> TensorRTOptions:
    """Return the options with their targets filled in. Raises UsageError for what the library cannot do here.

    gpu: the present GPU as "sm_89", or None. The library is imported last, for its targets.
    """
    if format == "tensorrt":
        if options.compute_capabilities:
            asked = " ".join(options.compute_capabilities)
            raise UsageError(f"--compute-capabilities {asked}: {format} builds for the present GPU only; leave it out")
        return options
    refused = dict.fromkeys(_TIMING, "is not for tensorrt-rtx: it times nothing while building; leave it out")
    if gpu is None:
        why = "needs the GPU itself with TensorRT-RTX, and there is none here; leave it out, or build on the GPU"
        refused |= dict.fromkeys(_NEEDS_DEVICE, why)
    given = options.model_dump(exclude_defaults=True)
    if name := next((name for name in refused if name in given), None):
        raise UsageError(f"--{name.replace('_', '-')} {refused[name]}")
    if options.plugin == "python":
        raise UsageError("--plugin python is not for tensorrt-rtx, which has no Python plugins; use library or off")
    targets, known = options.compute_capabilities or ((gpu,) if gpu else ()), rtx_targets()
    listed = ", ".join(known)
    if not targets:
        raise UsageError(f"there is no GPU here to build for: name targets with --compute-capabilities, of {listed}")
    for capability in targets:
        if capability not in known:
            raise UsageError(
                f"--compute-capabilities {capability} is no target of TensorRT-RTX, which has {listed}; that GPU needs "
                "engines of its own: --format tensorrt or aoti, and another --out"
            )
    return options.model_copy(update={"compute_capabilities": targets})


def _present_gpu() -> str | None:
    import torch

    return "sm_{}{}".format(*torch.cuda.get_device_capability()) if torch.cuda.is_available() else None


def _give_back_memory() -> None:
    """Return the memory of PyTorch's freed weights to the system, before the builder needs as much."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


TENSORRT, TENSORRT_RTX = TensorRTBuilder("tensorrt"), TensorRTBuilder("tensorrt-rtx")
