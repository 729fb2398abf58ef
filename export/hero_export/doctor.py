"""Shows which engine formats this machine can build and run, and the command that installs a missing part."""

import platform
from importlib.metadata import distributions

import torch
from pydantic import BaseModel

from hero_export.builders import BUILDERS, find_builder
from hero_export.builders.builder import FormatStatus

PACKAGES = (
    "torch diffusers transformers onnx onnxscript onnxruntime onnxruntime-gpu tensorrt tensorrt-rtx-cu13 polygraphy "
    "cuda-python triton av"
)


class Diagnosis(BaseModel):
    """What this machine has, as `hero-export doctor --json` writes it."""

    python: str
    system: str
    packages: dict[str, str | None]
    cuda: str | None  # of PyTorch
    driver: str | None  # the newest CUDA that it runs
    gpus: list[str]
    formats: list[FormatStatus]


def diagnose() -> Diagnosis:
    """Return what this machine has. Nothing is started, and no GPU is needed."""
    installed = {found.name: found.version for found in distributions()}
    gpus = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        gpus.append(f"{torch.cuda.get_device_name(index)} (sm_{major}{minor})")
    eager = FormatStatus(format="eager", runs_on=["cpu", "cuda"] if gpus else ["cpu"], builds=True)
    return Diagnosis(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        packages={name: installed.get(name) for name in PACKAGES.split()},
        cuda=torch.version.cuda,
        driver=_driver(),
        gpus=gpus,
        formats=[eager, *(find_builder(name).status() for name in BUILDERS)],
    )


def _driver() -> str | None:
    """Return the newest CUDA version that the driver runs."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return None
    _, version = runtime.cudaDriverGetVersion()  # 13010; 0 where there is no driver
    return f"{version // 1000}.{version % 1000 // 10}" if version else None
