"""ONNX to a TensorRT plan: one builder for `tensorrt` and `tensorrt_rtx`, which differ in their module's name.

Networks are strongly typed: precision lives in the graph. The module object is the only seam, so that what
TensorRT-RTX builds on a machine with no GPU is built by the lines that TensorRT runs.
"""

import importlib
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hero_rt.errors import EngineError, HeroError, UsageError

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_INSTALL = {
    "tensorrt": "pip install 'hero-runtime[tensorrt]'",
    "tensorrt-rtx": "pip install 'hero-runtime[tensorrt-rtx]'",
}
# what a plan for no particular device cannot hold: the library fails late and unclearly, or aborts
_NEEDS_DEVICE = ("refit", "strip_plan", "version_compatible")

Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all


@dataclass(frozen=True)
class PlanOptions:
    """Build options under polygraphy's and trtexec's names.

    workspace: bytes of tactic scratch (a spatio-temporal UNet has asked for 64 GiB uncapped); compute_capability:
    "sm_89", ... to build for (TensorRT-RTX), or none for the present GPU.
    """

    workspace: int = 8 << 30
    builder_optimization_level: int | None = None
    compute_capability: tuple[str, ...] = ()
    refit: bool = False
    strip_plan: bool = False
    version_compatible: bool = False


@dataclass(frozen=True)
class Plan:
    """A built plan and what the builder told of it."""

    path: Path
    bytes: int
    seconds: float
    layers: dict[str, int]  # of the network that was handed to the builder, by type
    log: tuple[str, ...]  # warnings


def load_module(format: str) -> Any:
    """The TensorRT Python module of an engine format. Raises EngineError naming the package to install."""
    if format not in MODULES:
        raise UsageError(f"TensorRT format {format!r} is not one of {', '.join(MODULES)}")
    try:
        return importlib.import_module(MODULES[format])
    except (ImportError, OSError) as error:
        raise EngineError(
            f"engine format {format} cannot import {MODULES[format]}: {error}; {_INSTALL[format]}"
        ) from error


def parse_workspace(text: str) -> int:
    """Bytes of `workspace:SIZE`, SIZE a number with K, M or G (powers of 1024), as polygraphy's --pool-limit."""
    match = re.fullmatch(r"workspace:(\d+(?:\.\d+)?)([KMG]?)", text)
    if match is None:
        raise UsageError(f"--pool-limit {text!r} is not workspace:SIZE, for instance workspace:8G")
    return int(float(match[1]) * 1024 ** " KMG".index(match[2] or " "))


def check_options(format: str, trt: Any, options: PlanOptions) -> None:
    """Refuse up front what this library cannot do, with the reason. Raises UsageError."""
    known = {name.removeprefix("SM") for name in dir(getattr(trt, "ComputeCapability", None)) if name.startswith("SM")}
    for capability in options.compute_capability:
        if format != "tensorrt-rtx":
            raise UsageError(
                f"--compute-capability {capability}: {format} builds for the present GPU only; leave it out"
            )
        if capability.removeprefix("sm_") not in known:
            listed = ", ".join(f"sm_{name}" for name in sorted(known, key=int))
            raise UsageError(
                f"--compute-capability {capability} is not a target of TensorRT-RTX {trt.__version__}; it has {listed}"
            )
    if options.compute_capability:
        for name in _NEEDS_DEVICE:
            if getattr(options, name):
                flag = name.replace("_", "-")
                raise UsageError(
                    f"--{flag} cannot be combined with --compute-capability: TensorRT-RTX needs the GPU itself for it"
                )


def build_plan(
    trt: Any, onnx_path: Path, path: Path, options: PlanOptions, progress: Progress = lambda phase, done, total: None
) -> Plan:
    """Build `onnx_path` into the plan `path`, atomically.

    A KeyboardInterrupt stops the builder at its next step. Raises HeroError with the parser's or builder's own words.
    """
    started = time.perf_counter()
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):  # by path: weights are external
        reasons = "; ".join(str(parser.get_error(i)).strip().splitlines()[0] for i in range(parser.num_errors))
        raise HeroError(f"{onnx_path}: TensorRT's parser refuses it: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.builder_optimization_level is not None:
        config.builder_optimization_level = options.builder_optimization_level
    if options.compute_capability:
        config.num_compute_capabilities = len(options.compute_capability)
        for index, capability in enumerate(options.compute_capability):
            name = capability.replace("sm_", "SM")
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    for name in _NEEDS_DEVICE:
        if getattr(options, name):
            config.set_flag(getattr(trt.BuilderFlag, name.upper()))
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    layers = Counter(str(network.get_layer(i).type).removeprefix("LayerType.") for i in range(network.num_layers))
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise HeroError(
            f"{onnx_path}: TensorRT builds no plan: {logger.errors[-1] if logger.errors else 'no reason given'}"
        )
    data = memoryview(plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".plan-", delete=False) as file:
        file.write(data)
    os.replace(file.name, path)
    return Plan(path, data.nbytes, time.perf_counter() - started, dict(layers), tuple(logger.warnings))


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):
        """Keeps errors and warnings for the message; prints nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message.strip())
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message.strip())

    return Logger()


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        """TensorRT's phases as a bar; a Ctrl-C answers its next question with stop."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._totals[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._totals.pop(phase_name, 0))

        def _tell(self, phase: str, done: int) -> None:
            try:
                progress(phase, done, self._totals.get(phase, done))
            except KeyboardInterrupt:
                self.interrupted = True

    return Monitor()
