"""The face that every engine shows to the runtime."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from hero_rt.errors import EngineError
from hero_rt.models.boundary import Specs
from hero_rt.models.config import HeroConfig
from hero_rt.profile import Profile


class Engine(Protocol):
    """One submodule at one profile, ready to run.

    `inputs` and `outputs` give each tensor's shape and dtype. `bind` sets inputs that stay until bound again (what
    is constant while denoising goes in once); a call gives the remaining ones and returns every output by name.
    """

    inputs: Specs
    outputs: Specs

    def bind(self, constants: Mapping[str, Tensor]) -> None: ...

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]: ...

    def close(self) -> None: ...


class EngineSet(Protocol):
    """The six submodules of one checkpoint in one format; engines are opened when first asked for and kept."""

    config: HeroConfig
    dtype: torch.dtype
    device: torch.device

    def open(self, submodule: str, profile: Profile) -> Engine: ...

    def close(self) -> None: ...


def check_tensors(
    engine: str, specs: Specs, tensors: Mapping[str, Tensor], bound: Mapping[str, Tensor] | None = None
) -> None:
    """Names, shapes and dtypes of `tensors` against `specs`; EngineError names the engine and the first mismatch.

    bound: of a call, what was bound and checked before; with it every input must be there.
    """
    for name, tensor in tensors.items():
        if name not in specs:
            raise EngineError(f"{engine} has no input {name!r}; it takes {', '.join(specs)}")
        spec = specs[name]
        if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.dtype:
            seen = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            raise EngineError(f"{engine}: input {name!r} is {seen}, the engine takes {spec}")
    if bound is not None and (missing := [name for name in specs if name not in tensors and name not in bound]):
        raise EngineError(f"{engine}: input {missing[0]!r} is neither bound nor given")
