"""The PyTorch model behind the engine protocol: the baseline and the truth. Runs any profile."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hero_rt.engines.engine import check_tensors
from hero_rt.models.boundary import Specs, submodule_io
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.profile import Profile


class ModuleEngine:
    """A PyTorch callable: takes `inputs` in their order, returns a tensor or a tuple in the order of `outputs`."""

    def __init__(self, name: str, forward: Callable[..., Any], inputs: Specs, outputs: Specs):
        self.name, self.inputs, self.outputs = name, inputs, outputs
        self._forward = forward
        self._bound: dict[str, Tensor] = {}

    def bind(self, constants: Mapping[str, Tensor]) -> None:
        check_tensors(self.name, self.inputs, constants)
        self._bound = dict(constants)

    @torch.inference_mode()
    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        check_tensors(self.name, self.inputs, inputs, self._bound)
        given = self._bound | inputs
        out = self._forward(*(given[name] for name in self.inputs))
        return dict(zip(self.outputs, (out,) if isinstance(out, Tensor) else out, strict=True))

    def close(self) -> None:
        self._bound = {}


class EagerEngine(ModuleEngine):
    """One submodule of a HeroModel."""

    def __init__(self, model: HeroModel, submodule: str, profile: Profile):
        inputs, outputs = submodule_io(submodule, model.config, profile, model.dtype)
        super().__init__(f"eager {submodule} {profile}", build_submodule(model, submodule, profile), inputs, outputs)


class EagerEngines:
    """A HeroModel as an engine set: every profile is available, nothing is built."""

    def __init__(self, model: HeroModel):
        self.model = model
        self.config, self.dtype, self.device = model.config, model.dtype, model.device
        self._engines: dict[tuple[str, Profile], EagerEngine] = {}

    def open(self, submodule: str, profile: Profile) -> EagerEngine:
        key = (submodule, profile)
        if key not in self._engines:
            self._engines[key] = EagerEngine(self.model, submodule, profile)
        return self._engines[key]

    def close(self) -> None:
        self._engines.clear()
