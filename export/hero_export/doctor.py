"""What this machine has, which engine formats it can build and run, and the command that adds what is missing."""

import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import torch
from pydantic import BaseModel

from hero_export.plan_options import PlanOptions, check_options
from hero_rt.engines.backend import FORMATS, backend
from hero_rt.engines.tensorrt import BACKENDS as TENSORRTS
from hero_rt.errors import EngineError, UsageError

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "polygraphy",
    "cuda-python",
    "triton",
    "av",
)


class FormatStatus(BaseModel):
    """Whether engines of a format run here, and on which device; the remedy where they do not."""

    format: str
    runs_on: list[str]
    builds: bool
    missing: str | None


class Diagnosis(BaseModel):
    """What `hero-export doctor --json` writes."""

    python: str
    system: str
    packages: dict[str, str | None]
    cuda: str | None
    driver: str | None
    gpus: list[str]
    formats: list[FormatStatus]


def diagnose() -> Diagnosis:
    """Look at this machine; starts nothing and needs no GPU."""
    gpus = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        gpus.append(f"{torch.cuda.get_device_name(index)} (sm_{major}{minor})")
    return Diagnosis(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        packages={name: _version(name) for name in PACKAGES},
        cuda=torch.version.cuda,
        driver=_driver(),
        gpus=gpus,
        formats=[_eager(), *(_status(name) for name in FORMATS)],
    )


def _eager() -> FormatStatus:
    runs_on = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return FormatStatus(format="eager", runs_on=runs_on, builds=True, missing=None)


def _status(name: str) -> FormatStatus:
    """A format runs where its library is; each format's library also builds it here, but for a compiler."""
    if name in TENSORRTS:
        return _tensorrt(name)
    chosen = backend(name)
    try:
        device = chosen.default_device()
        chosen.this_machine(device)
    except EngineError as error:
        return FormatStatus(format=name, runs_on=[], builds=False, missing=str(error))
    missing = None
    if name == "aoti" and not any(shutil.which(compiler) for compiler in ("g++", "clang++")):
        missing = "building needs a C++ compiler: apt-get install g++"
    elif device.type == "cpu" and torch.cuda.is_available():
        missing = f"the GPU is not used: {sys.executable} -m pip install 'hero-runtime[gpu]'"
    return FormatStatus(format=name, runs_on=sorted({"cpu", device.type}), builds=missing is None, missing=missing)


def _tensorrt(name: str) -> FormatStatus:
    """TensorRT-RTX builds with no GPU for targets that are named; the GPUs that it serves are a list of its own."""
    chosen = TENSORRTS[name]
    builds = False
    try:
        trt = chosen.module()
        builds = name == "tensorrt-rtx"
        gpu = chosen.this_machine(chosen.default_device()).compute_capabilities[0]
        check_options(name, trt, PlanOptions(), gpu)
    except (EngineError, UsageError) as error:  # this GPU may be none of its targets
        return FormatStatus(format=name, runs_on=[], builds=builds, missing=str(error))
    return FormatStatus(format=name, runs_on=["cuda"], builds=True, missing=None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else None
