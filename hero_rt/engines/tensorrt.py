"""Runs plans of TensorRT and TensorRT-RTX. The two libraries differ in the name of their module."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor

from hero_rt.engines.manifest import Target
from hero_rt.engines.slots import OutOfMemoryError, Slot, SlotEngine
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import FREE, Specs, TensorSpec


class TensorRT:
    """The backend of one of the two libraries."""

    def __init__(self, format: str, module: str):
        self.format, self._module = format, module

    def module(self) -> Any:
        """Import the library's Python module. Raises EngineError, which names the package to install."""
        try:
            return importlib.import_module(self._module)
        except (ImportError, OSError) as error:  # OSError: bindings without their libraries
            raise EngineError(
                f"engine format {self.format} cannot import {self._module}: {error}; pip install '.[{self.format}]'"
            ) from error

    def default_device(self) -> torch.device:
        return torch.device("cuda")

    def library(self) -> Target:
        """Return the library without a device, for a builder that names its targets."""
        return Target(library=self.format, library_version=self.module().__version__)

    def this_machine(self, device: torch.device) -> Target:
        target = self.library()
        if device.type != "cuda" or not torch.cuda.is_available():
            raise EngineError(f"{self.format} engines run on NVIDIA GPUs; device {device} is not one that PyTorch sees")
        major, minor = torch.cuda.get_device_capability(device)
        target.gpu, target.cuda = torch.cuda.get_device_name(device), torch.version.cuda
        target.compute_capabilities = [f"sm_{major}{minor}"]
        return target

    def mismatch(self, built: Target, here: Target) -> str | None:
        built_version, version = Version(built.library_version), Version(here.library_version)
        later_runs = built.version_compatible and version >= built_version
        if built_version.release[:3] != version.release[:3] and not later_runs:
            return f"built with {self.format} {built_version}, {version} is installed"
        if not any(_covers(capability, here.compute_capabilities[0]) for capability in built.compute_capabilities):
            wanted = ", ".join(built.compute_capabilities)
            return f"built for {wanted}, this is {here.gpu} ({here.compute_capabilities[0]})"
        return None

    def open_engine(
        self, path: Path, inputs: Specs, outputs: Specs, workspace: Workspace, beside: Sequence[Path] = ()
    ) -> "TensorRTEngine":
        return TensorRTEngine(self.module(), path, inputs, outputs, workspace, beside)


TENSORRT, TENSORRT_RTX = TensorRT("tensorrt", "tensorrt"), TensorRT("tensorrt-rtx", "tensorrt_rtx")


def _covers(capability: str, gpu: str) -> bool:
    """Return whether a capability covers a GPU. sm_89 covers SM 8.9 only, sm_80+ every SM from 8.0 on."""
    if capability.endswith("+"):
        return int(gpu[3:]) >= int(capability[3:-1])
    return capability == gpu


class Plan:
    """A deserialised plan. Each shape has an execution context of its own.

    beside: files that the plan needs: the plugin's library, or the graph with the weights of a stripped plan.
    """

    def __init__(self, trt: Any, path: Path, beside: Sequence[Path]):
        self.name, self.logger = path.name, _logger(trt)
        for library in (file for file in beside if file.suffix == ".so"):
            trt.get_plugin_registry().load_library(str(library))
        self._runtime = trt.Runtime(self.logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise self.failed(f"{trt.__name__} {trt.__version__} cannot load it")
        for graph in (file for file in beside if file.suffix == ".onnx"):
            self._refit(trt, graph)

    def context(self, trt: Any, inputs: Specs, outputs: Specs, workspace: Workspace) -> tuple[Any, Tensor]:
        """Return an execution context at these shapes, and the scratch of the workspace that it uses."""
        self._check_boundary(trt, inputs, outputs)
        context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise self.failed("no execution context; is there enough GPU memory?", OutOfMemoryError)
        for name, spec in inputs.items():
            if FREE in self._engine.get_tensor_shape(name) and not context.set_input_shape(name, spec.shape):
                raise self.failed(f"input {name!r} cannot be {spec}")
        scratch = workspace.scratch(self._engine.device_memory_size_v2)
        context.set_device_memory(scratch.data_ptr(), scratch.numel())
        return context, scratch

    def failed(self, what: str, kind: type[EngineError] = EngineError) -> EngineError:
        said = f": {self.logger.errors[-1]}" if self.logger.errors else ""
        return kind(f"{self.name}: {what}{said}; rebuild the folder with hero-export build-engines")

    def _check_boundary(self, trt: Any, inputs: Specs, outputs: Specs) -> None:
        for mode, specs in ((trt.TensorIOMode.INPUT, inputs), (trt.TensorIOMode.OUTPUT, outputs)):
            names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
            seen = {
                name: TensorSpec(tuple(self._engine.get_tensor_shape(name)), self._dtype(trt, name))
                for name in names
                if self._engine.get_tensor_mode(name) == mode
            }
            for name in {**specs, **seen}:
                if name not in specs or name not in seen or not seen[name].fits(specs[name]):
                    wanted = f"the manifest says {specs.get(name)}"
                    raise self.failed(f"tensor {name!r} is {seen.get(name)}, {wanted}")

    def _dtype(self, trt: Any, name: str) -> torch.dtype:
        types = {trt.DataType.FLOAT: torch.float32, trt.DataType.HALF: torch.float16}
        dtype = self._engine.get_tensor_dtype(name)
        if dtype not in types:
            raise self.failed(f"tensor {name!r} is {dtype}, neither FP32 nor FP16")
        return types[dtype]

    def _refit(self, trt: Any, graph: Path) -> None:
        refitter = trt.Refitter(self._engine, self.logger)
        parser = trt.OnnxParserRefitter(refitter, self.logger)
        if not parser.refit_from_file(str(graph)) or not refitter.refit_cuda_engine():
            raise self.failed(f"it does not take the weights of {graph.name}")


class TensorRTEngine(SlotEngine):
    """Runs a plan at one shape. Engines at other shapes share the plan of the file, which is loaded once.

    Each slot of the engine has its own execution context (`PlanContext`).
    """

    def __init__(
        self, trt: Any, path: Path, inputs: Specs, outputs: Specs, workspace: Workspace, beside: Sequence[Path] = ()
    ):
        with workspace.on_stream():
            self._plan = workspace.loaded(path, lambda: Plan(trt, path, beside))
        plan = self._plan
        super().__init__(
            path.name, inputs, outputs, workspace, lambda: PlanContext(trt, plan, inputs, outputs, workspace)
        )

    def _close(self) -> None:
        super()._close()
        del self._plan


class PlanContext(Slot):
    """An execution context of a plan, and its buffers."""

    def __init__(self, trt: Any, plan: Plan, inputs: Specs, outputs: Specs, workspace: Workspace):
        self._plan, self._stream = plan, workspace.stream
        self._context, self._scratch = plan.context(trt, inputs, outputs, workspace)
        super().__init__(plan.name, {**inputs, **outputs}, workspace)
        self._results = tuple(self.buffers[name] for name in outputs)
        for name, buffer in self.buffers.items():
            if not self._context.set_tensor_address(name, buffer.data_ptr()):
                raise plan.failed(f"tensor {name!r} takes no address")

    def enqueue(self) -> tuple[Tensor, ...]:
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise self._plan.failed("it does not run")
        return self._results

    def close(self) -> None:
        super().close()
        del self._results, self._context, self._plan, self._scratch  # in this order: each needs the next


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):
        """Keeps errors for the message that names the engine; prints nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message.strip())

    return Logger()
