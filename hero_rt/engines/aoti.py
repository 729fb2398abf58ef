"""AOTInductor packages: torch.export compiled ahead of time, run with nothing beyond PyTorch."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hero_rt.engines.engine import check_tensors
from hero_rt.engines.manifest import Target
from hero_rt.errors import EngineError
from hero_rt.models.submodules import Specs


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


def open_engine(path: Path, inputs: Specs, outputs: Specs, device: torch.device) -> "AotiEngine":
    return AotiEngine(path, inputs, outputs, device)


class AotiEngine:
    """One compiled package."""

    def __init__(self, path: Path, inputs: Specs, outputs: Specs, device: torch.device):
        self.name, self.inputs, self.outputs = path.name, inputs, outputs
        try:
            self._run = torch._inductor.aoti_load_package(str(path), device_index=device.index or -1)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise EngineError(f"{path}: torch {torch.__version__} cannot load it: {reason}") from error
        self._bound: dict[str, Tensor] = {}

    def bind(self, constants: Mapping[str, Tensor]) -> None:
        check_tensors(self.name, self.inputs, constants, required=False)
        # the compiled code was specialised to dense inputs
        self._bound = {name: tensor.contiguous() for name, tensor in constants.items()}

    @torch.inference_mode()
    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        given = self._bound | {name: tensor.contiguous() for name, tensor in inputs.items()}
        check_tensors(self.name, self.inputs, given, required=True)
        out = self._run(*(given[name] for name in self.inputs))
        return dict(zip(self.outputs, (out,) if isinstance(out, Tensor) else out, strict=True))

    def close(self) -> None:
        self._bound = {}
        del self._run
