"""Runs AOTInductor packages, which need PyTorch only."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hero_rt.engines.engine import Binding, Engine, ModuleEngine
from hero_rt.engines.manifest import Target
from hero_rt.engines.slots import Slot, SlotEngine
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError, first_line
from hero_rt.spec.boundary import Specs


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def this_machine(device: torch.device) -> Target:
    """Return PyTorch's version, and the GPU's SM or the CPU's vector extension. Packages hold native code for these."""
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


def open_engine(path: Path, inputs: Specs, outputs: Specs, workspace: Workspace, beside: Sequence[Path] = ()) -> Engine:
    """Open a compiled package. On CUDA it has static input buffers, and a CUDA graph from the second run on."""
    device = workspace.device
    try:
        # its own bookkeeping between threads cannot be captured in a graph
        package = torch._inductor.aoti_load_package(
            str(path),
            run_single_threaded=device.type == "cuda",
            device_index=-1 if device.index is None else device.index,
        )
    except RuntimeError as error:
        raise EngineError(f"{path}: torch {torch.__version__} cannot load it: {first_line(error)}") from error
    if device.type == "cpu":
        return PackageEngine(path.name, lambda *given: package(*map(Tensor.contiguous, given)), inputs, outputs)
    return SlotEngine(
        path.name, inputs, outputs, workspace, lambda: PackageCalls(path.name, package, inputs, workspace)
    )


class PackageEngine(ModuleEngine):
    """A package on a CPU. The compiled code was specialised to dense inputs."""

    def _bind(self, constants: Mapping[str, Tensor]) -> Binding:
        return Binding({name: tensor.contiguous() for name, tensor in constants.items()})


class PackageCalls(Slot):
    """Calls of a package on static input buffers. The compiled code was specialised to dense inputs."""

    def __init__(self, name: str, package: Callable[..., Any], inputs: Specs, workspace: Workspace):
        super().__init__(name, inputs, workspace)
        self._package = package

    @torch.inference_mode()
    def enqueue(self) -> tuple[Tensor, ...]:
        out = self._package(*self.buffers.values())
        return (out,) if isinstance(out, Tensor) else tuple(out)
