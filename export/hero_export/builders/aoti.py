"""Builds format aoti: a package that AOTInductor compiles for this machine's GPU or CPU."""

import os
import re
import shutil
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from hero_export.builders.builder import Builder, BuilderOptions, EngineJob, FormatStatus, Made
from hero_rt.errors import HeroError
from hero_rt.spec.profile import Profile

if TYPE_CHECKING:
    from hero_rt.engines.manifest import Target


class AotiOptions(BuilderOptions):
    panel = "AOTInductor"

    device: str | None = Field(None, description="cpu or cuda; default: the GPU, if any.")
    max_autotune: bool = Field(False, description="Benchmark kernel variants while compiling.")


class AotiBuilder(Builder):
    format = "aoti"
    suffix = ".pt2"
    Options = AotiOptions
    takes_ranges = False

    def resolve(self, options: AotiOptions) -> AotiOptions:
        _check_compiler()
        return options

    def target(self, options: AotiOptions) -> "Target":
        import torch

        return self.backend().this_machine(torch.device(options.device or self.backend().default_device()))

    def flags(self, options: AotiOptions) -> dict[str, Any]:
        return {"max_autotune": options.max_autotune}

    def make(self, job: EngineJob) -> Made:
        from hero_export.aoti_package import compile_aoti

        assert isinstance(job.profile, Profile)  # ranges are refused before anything is built
        # a package is for the device that it is traced on
        model = job.model(job.options.device or str(self.backend().default_device()))
        operators = compile_aoti(model, job.submodule, job.profile, job.path, job.options.max_autotune)
        return Made({"nodes": operators.total(), "operators": dict(operators.most_common())})

    def inspect(self, path: Path, contents: dict[str, Any]) -> tuple[dict[str, int], list[str]]:
        kernels = package_kernels(path)
        return kernels, list(kernels)

    def status(self) -> FormatStatus:
        found = super().status()
        try:
            _check_compiler()
        except HeroError as error:
            return found.model_copy(update={"builds": False, "missing": str(error)})
        return found


def _check_compiler() -> None:
    """Raise HeroError if there is no C++ compiler: neither CXX's nor Inductor's default."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise HeroError(
            f"format aoti compiles C++, and {compiler} is not installed; apt-get install g++, or name a compiler in CXX"
        )


def package_kernels(path: Path) -> dict[str, int]:
    """Count the kernels of an AOTInductor package by name, from the calls in its generated code."""
    with zipfile.ZipFile(path) as package:
        sources = [name for name in package.namelist() if name.endswith(".wrapper.cpp")]
        text = "\n".join(package.read(name).decode() for name in sources)
    names = r"aoti_torch_(?:cpu|cuda)_\w+|cpp_\w*fused_\w+"
    calls = re.findall(rf"\b({names})\s*\(|^\s+call_(\w+)\(", text, re.MULTILINE)  # call_: a Triton launcher
    return dict(Counter(name or kernel for name, kernel in calls).most_common())


BUILDER = AotiBuilder()
