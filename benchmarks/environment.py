"""Reads the machine, its clocks and the software versions."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import torch

from benchmarks.schema import Environment

PACKAGES = "torch triton onnxruntime onnxruntime-gpu tensorrt tensorrt-rtx-cu13 onnx diffusers transformers numpy"
COMMIT = "HERO_COMMIT"  # for a copy without git history: `git describe --always --dirty --abbrev=40 --exclude '*'`
_DIRTY = "-dirty"
# a run writes results and their page, which change no measurement
_CODE = ("--", ".", ":(exclude)benchmarks/results", ":(exclude)docs")
_CLOCKS = "clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu,clocks_event_reasons.active"


def read_environment(device: torch.device) -> Environment:
    """Describe this machine. No setting is changed."""
    commit, dirty = read_commit(Path(__file__).parents[1])
    installed = {found.name: found.version for found in distributions()}
    environment = Environment(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
        dirty=dirty,
        processor=_cpuinfo("model name") or platform.machine(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        load_average=round(os.getloadavg()[0], 2),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: installed[name] for name in PACKAGES.split() if name in installed},
        clocks=read_clocks(device),
    )
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        environment.gpu, environment.sm = properties.name, f"{properties.major}.{properties.minor}"
        environment.cuda, environment.driver = torch.version.cuda, _nvidia_smi(device, "driver_version")
    return environment


def read_clocks(device: torch.device) -> dict[str, str]:
    """Return clocks, power and temperature by nvidia-smi, or the processor's clock if there is no GPU."""
    if device.type != "cuda":
        clock = _cpuinfo("cpu MHz")
        return {"cpu": f"{float(clock):.0f} MHz"} if clock else {}
    values = _nvidia_smi(device, _CLOCKS)
    return dict(zip(_CLOCKS.split(","), values.split(", "), strict=True)) if values else {}


def _nvidia_smi(device: torch.device, query: str) -> str | None:
    return _output("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", f"--id={device.index or 0}")


def _cpuinfo(field: str) -> str | None:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), None)


def read_commit(root: Path) -> tuple[str, bool | None]:
    """Return the commit of a checkout, and whether a tracked file changed or a Python file is untracked.

    For a copy without git history, HERO_COMMIT gives both. Without it, the result is "" and None.
    """
    git = ("git", "-C", str(root))
    commit = _output(*git, "rev-parse", "HEAD") if (root / ".git").exists() else None
    status = _output(*git, "status", "--porcelain", "--untracked-files=all", *_CODE)
    if commit is not None and status is not None:
        changed = [line for line in status.splitlines() if line[:2] != "??" or line.rstrip('"').endswith(".py")]
        return commit, bool(changed)
    said = os.environ.get(COMMIT, "")
    return said.removesuffix(_DIRTY), said.endswith(_DIRTY) if said else None


def _output(program: str, *arguments: str) -> str | None:
    """Return what a program prints, or None if it is missing or fails."""
    if shutil.which(program) is None:
        return None
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
