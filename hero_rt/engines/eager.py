"""The PyTorch model behind the engine protocol: the baseline and the truth. Runs any profile."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hero_rt.engines.engine import Binding, Engine, EngineSet
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import Specs, submodule_io
from hero_rt.spec.profile import Profile


class ModuleEngine(Engine):
    """A PyTorch callable: takes `inputs` in their order, returns a tensor or a tuple in the order of `outputs`."""

    def __init__(
        self, name: str, forward: Callable[..., Any], inputs: Specs, outputs: Specs, device: torch.device | None = None
    ):
        super().__init__(name, inputs, outputs)
        self._forward, self._device = forward, device or torch.device("cpu")

    @property
    def device(self) -> torch.device:
        return self._device

    def _bind(self, constants: Mapping[str, Tensor]) -> Binding:
        return Binding(constants)

    @torch.inference_mode()
    def _run(self, binding: Binding, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = {**binding.constants, **inputs}
        out = self._forward(*(given[name] for name in self.inputs))
        return dict(zip(self.outputs, (out,) if isinstance(out, Tensor) else out, strict=True))


class EagerEngine(ModuleEngine):
    """One submodule of a HeroModel."""

    def __init__(self, model: HeroModel, submodule: str, profile: Profile):
        inputs, outputs = submodule_io(submodule, model.config, profile, model.dtype)
        module = build_submodule(model, submodule, profile)
        super().__init__(f"eager {submodule} {profile}", module, inputs, outputs, model.device)


class EagerEngines(EngineSet):
    """A HeroModel as an engine set: every profile is available, nothing is built."""

    def __init__(self, model: HeroModel):
        super().__init__(model.config, model.dtype, model.device)
        self.model = model

    def _open(self, submodule: str, profile: Profile) -> EagerEngine:
        return EagerEngine(self.model, submodule, profile)
