"""One submodule as an AOTInductor package: compiled for this machine's GPU or CPU, weights inside."""

import os
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hero_export.trace import trace
from hero_rt.errors import HeroError
from hero_rt.models.hero import HeroModel
from hero_rt.profile import Profile

ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
SHORT = 8  # keys


@dataclass(frozen=True)
class AotiExport:
    path: Path
    nodes: int
    operators: dict[str, int]
    seconds: float


def compile_aoti(
    model: HeroModel, submodule: str, profile: Profile, path: Path, max_autotune: bool = False
) -> AotiExport:
    """Write the package `path` (.pt2) for the device that `model` is on, in its dtype.

    Convolutions run channels-last where Inductor's layout pass finds that faster; weights are folded (freezing).
    max_autotune: benchmark kernel variants while compiling; slow, and worth it on a GPU. Raises HeroError where the
    compiler fails, most often for want of a C++ compiler.
    """
    started = time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".aoti-") as scratch,
    ):
        warnings.simplefilter("ignore")  # torch's own deprecations
        exported = trace(model, submodule, profile)
        if model.device.type == "cpu":
            exported = exported.run_decompositions({ATTENTION: short_attention})
        try:
            package = torch._inductor.aoti_compile_and_package(
                exported,
                package_path=str(Path(scratch) / "package.pt2"),
                inductor_configs={
                    "freezing": True,
                    "max_autotune": max_autotune,
                    "cpp.dynamic_threads": True,  # those of the process that runs it, not of this one
                },
            )
        except torch._inductor.exc.InductorError as error:
            reason = str(error).strip().splitlines()[0]
            raise HeroError(f"{submodule} at {profile} does not compile: {reason}; is g++ installed?") from error
        os.replace(package, path)
    operators = Counter(
        str(node.target).removesuffix(".default") for node in exported.graph.nodes if node.op == "call_function"
    )
    return AotiExport(path, operators.total(), dict(operators.most_common()), time.perf_counter() - started)


def short_attention(query: Tensor, key: Tensor, value: Tensor, *args: object, **kwargs: object) -> Tensor:
    """Attention to a few keys, [R, heads, S, d], as two products and a softmax over rows; others stay one operator.

    The CLIP tokens are four. PyTorch's CPU kernel is made for hundreds: at 256 queries it takes 0.57 ms for what this
    does in 0.15.
    """
    if key.shape[-2] > SHORT or args or kwargs:
        return NotImplemented
    scores = key @ (query * query.shape[-1] ** -0.5).transpose(-1, -2)
    return (value.transpose(-1, -2) @ scores.softmax(-2)).transpose(-1, -2)
