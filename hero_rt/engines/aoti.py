"""AOTInductor packages: torch.export compiled ahead of time, run with nothing beyond PyTorch."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hero_rt.engines.engine import Binding, Engine
from hero_rt.engines.manifest import Target
from hero_rt.engines.slots import Slot, SlotBinding, Slots
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import Specs

_log = logging.getLogger(__name__)


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def this_machine(device: torch.device) -> Target:
    """PyTorch, and the GPU with its SM or the CPU with its vector extension: packages hold native code for these."""
    target = Target(library="torch", library_version=torch.__version__.split("+")[0])
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        target.gpu, target.cuda = torch.cuda.get_device_name(device), torch.version.cuda
        target.compute_capabilities = [f"sm_{major}{minor}"]
    else:
        target.compute_capabilities = [f"cpu {torch.backends.cpu.get_cpu_capability()}"]
    return target


def mismatch(built: Target, here: Target) -> str | None:
    if built.library_version != here.library_version:
        return f"built with torch {built.library_version}, {here.library_version} is installed"
    if built.compute_capabilities != here.compute_capabilities:
        devices = (f"{target.gpu or 'a CPU'} ({target.compute_capabilities[0]})" for target in (built, here))
        return "built for {}, this is {}".format(*devices)
    return None


def open_engine(
    path: Path, inputs: Specs, outputs: Specs, workspace: Workspace, beside: Sequence[Path] = ()
) -> "AotiEngine":
    return AotiEngine(path, inputs, outputs, workspace)


class AotiEngine(Engine):
    """One compiled package; on CUDA with static input buffers, and a CUDA graph from the second run on."""

    def __init__(self, path: Path, inputs: Specs, outputs: Specs, workspace: Workspace):
        super().__init__(path.name, inputs, outputs)
        self._device, self._lock = workspace.device, workspace.lock
        on_cuda = self._device.type == "cuda"
        try:
            # its own bookkeeping between threads cannot be captured in a graph
            self._package = torch._inductor.aoti_load_package(
                str(path),
                run_single_threaded=on_cuda,
                device_index=-1 if self.device.index is None else self.device.index,
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise EngineError(f"{path}: torch {torch.__version__} cannot load it: {reason}") from error
        self._slots = Slots(path.name, self._make_slot) if on_cuda else None

    def _make_slot(self) -> "GraphedCalls":
        return GraphedCalls(self.name, self._package, self.inputs, self._device)

    @property
    def device(self) -> torch.device:
        return self._device

    def _bind(self, constants: Mapping[str, Tensor]) -> Binding:
        if self._slots is None:  # the compiled code was specialised to dense inputs
            return Binding({name: tensor.contiguous() for name, tensor in constants.items()})
        with self._lock:
            binding = self._slots.bind(constants)
            binding.slot.load(binding)
        return binding

    @torch.inference_mode()
    def _run(self, binding: Binding, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if isinstance(binding, SlotBinding):
            with self._lock:
                binding.slot.load(binding)
                binding.slot.copy_in(inputs)
                out = binding.slot()
        else:
            given = {**binding.constants, **{name: tensor.contiguous() for name, tensor in inputs.items()}}
            out = self._package(*(given[name] for name in self.inputs))
        return dict(zip(self.outputs, (out,) if isinstance(out, Tensor) else out, strict=True))

    def _close(self) -> None:
        if self._slots is not None:
            self._slots.close()
        del self._package


class GraphedCalls(Slot):
    """A package on static buffers. The first call warms up on a stream of its own, the second is captured.

    Where it cannot be captured, every call runs as the first did: slower, not wrong.
    """

    def __init__(self, name: str, run: Callable[..., Any], inputs: Specs, device: torch.device):
        self._name, self._run = name, run
        super().__init__(
            {name: torch.zeros(spec.shape, dtype=spec.dtype, device=device) for name, spec in inputs.items()}
        )
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._out: Any = None
        self._calls = 0

    def copy_in(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.buffers[name].copy_(tensor)

    def close(self) -> None:
        self._graph, self._out, self.buffers = None, None, {}

    def __call__(self) -> tuple[Tensor, ...]:
        """Results in memory of their own: the graph's belongs to its next launch."""
        self._calls += 1
        if self._calls == 2:
            self._capture()
        if self._graph is not None:
            self._graph.replay()
        else:
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                self._out = self._run(*self.buffers.values())
            current.wait_stream(self._stream)
        out = (self._out,) if isinstance(self._out, Tensor) else self._out
        return tuple(tensor.clone() for tensor in out)

    def _capture(self) -> None:
        """Captures the CUDA graph. Capturing records the work; `replay()` runs it."""
        current, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        self._stream.wait_stream(current)
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                out = self._run(*self.buffers.values())
        except RuntimeError as error:
            torch.cuda.set_stream(current)  # PyTorch leaves the capture's where ending it fails
            _log.warning("%s runs without a CUDA graph: %s", self._name, error)
            return
        current.wait_stream(self._stream)
        self._graph, self._out = graph, out
