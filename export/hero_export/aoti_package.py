"""Compiles one submodule to an AOTInductor package for this machine's GPU or CPU, with its weights."""

import warnings
import zipfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import cache_dir

from hero_export.cuda_toolchain import cuda_toolchain
from hero_export.trace import trace
from hero_rt.atomic import atomic_path
from hero_rt.errors import HeroError
from hero_rt.models.hero import HeroModel
from hero_rt.models.motion import fuse_temporal_projections
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.profile import Profile

ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
SHORT = 8  # keys


def compile_aoti(
    model: HeroModel, submodule: str, profile: Profile, path: Path, max_autotune: bool = False
) -> Counter[str]:
    """Write the package `path` (.pt2) for the device that `model` is on, in its dtype. Return its operators.

    Weights are folded (freezing). Convolutions run channels-last if Inductor's layout pass finds that faster. For a GPU
    the model's temporal projections are fused in place.

    max_autotune: benchmark kernel variants while compiling, which is slow. Raises HeroError if the compiler fails, or
    if a package for a GPU finds no CUDA toolkit.
    """
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        atomic_path(path) as part,
        cuda_toolchain() if model.device.type == "cuda" else nullcontext(),
    ):
        warnings.simplefilter("ignore")  # torch's own deprecations
        if model.device.type == "cuda":
            fuse_temporal_projections(build_submodule(model, submodule, profile))
        exported = trace(model, submodule, profile)
        if model.device.type == "cpu":
            exported = exported.run_decompositions({ATTENTION: short_attention})
        try:
            torch._inductor.aoti_compile_and_package(
                exported,
                package_path=str(part),
                inductor_configs={
                    "freezing": True,
                    "max_autotune": max_autotune,
                    "cpp.dynamic_threads": True,  # those of the process that runs it, not of this one
                    # on a GPU the wrapper's C++ runs twice, then its graph does; it is half the time to compile
                    "aot_inductor.compile_wrapper_opt_level": "O0" if model.device.type == "cuda" else "O1",
                },
            )
        except torch._inductor.exc.InductorError as error:
            reason = _first_error(str(error))
            raise HeroError(f"{submodule} at {profile} does not compile: {reason}") from error
        _drop_cached_library(part)
    return Counter(
        str(node.target).removesuffix(".default") for node in exported.graph.nodes if node.op == "call_function"
    )


def _first_error(message: str) -> str:
    """Return the first line that is an error of a compiler or linker, else the first line."""
    lines = message.strip().splitlines()
    return next((line.strip() for line in lines if "error:" in line or "cannot find" in line), lines[0])


def _drop_cached_library(package: Path) -> None:
    """Delete the library of the package from Inductor's cache. It holds all weights, and nothing reads it."""
    with zipfile.ZipFile(package) as archive:
        names = {Path(name).name for name in archive.namelist() if name.endswith(".so")}
    for library in Path(cache_dir()).glob("*/*.so"):
        if library.name in names:
            library.unlink()


def short_attention(query: Tensor, key: Tensor, value: Tensor, *args: object, **kwargs: object) -> Tensor:
    """Compute attention to a few keys, [R, heads, S, d], as two products and a softmax. More keys stay one operator.

    There are four CLIP tokens. PyTorch's CPU kernel is made for hundreds of keys: for 256 queries it takes 0.57 ms, and
    this takes 0.15 ms.
    """
    if key.shape[-2] > SHORT or args or kwargs:
        return NotImplemented
    scores = key @ (query * query.shape[-1] ** -0.5).transpose(-1, -2)
    return (value.transpose(-1, -2) @ scores.softmax(-2)).transpose(-1, -2)
