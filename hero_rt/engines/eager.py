"""Runs the PyTorch model as engines, at any profile. It is the baseline, and the truth for every other engine."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hero_rt.engines.engine import Binding, EngineSet, ModuleEngine
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import submodule_io
from hero_rt.spec.profile import Profile

OnDevice = Callable[[nn.Module], AbstractContextManager[Any]]


class EagerEngine(ModuleEngine):
    """One submodule of a HeroModel. on_device: a context in which its module can run."""

    def __init__(
        self,
        model: HeroModel,
        submodule: str,
        profile: Profile,
        device: torch.device | None = None,
        on_device: OnDevice = nullcontext,
    ):
        inputs, outputs = submodule_io(submodule, model.config, profile, model.dtype)
        self._module, self._on_device = build_submodule(model, submodule, profile), on_device
        super().__init__(f"eager {submodule} {profile}", self._module, inputs, outputs, device or model.device)

    def _run(self, binding: Binding, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with self._on_device(self._module):
            return super()._run(binding, inputs)


class EagerEngines(EngineSet):
    """A HeroModel as an engine set: every profile is available, nothing is built."""

    def __init__(self, model: HeroModel):
        super().__init__(model.config, model.dtype, model.device)
        self.model = model
        self._offloads = False
        self._loaded: nn.Module | None = None  # onto the device, while offloading

    def move(self, device: torch.device | None, dtype: torch.dtype | None) -> None:
        """Move the model. Bindings made before do not fit the engines that are opened afterwards."""
        with self._lock:
            self._offloads, self._loaded = False, None
            self.model.to(device, dtype)
            self.device, self.dtype = self.model.device, self.model.dtype
            self._engines.clear()

    def offload(self, device: torch.device) -> None:
        """Keep the weights on the CPU; each submodule is on `device` from its run until another's."""
        with self._lock:
            self.move(torch.device("cpu"), None)
            self._offloads, self.device = True, device

    def describe(self) -> str:
        return f"the PyTorch model {self.config.name}"

    def _open(self, submodule: str, profile: Profile) -> EagerEngine:
        return EagerEngine(self.model, submodule, profile, self.device, self._on_device)

    @contextmanager
    def _on_device(self, module: nn.Module) -> Iterator[None]:
        if not self._offloads:
            yield
            return
        with self._lock:
            if self._loaded is not module:
                if self._loaded is not None:  # first: submodules share weights
                    self._loaded.to("cpu")
                self._loaded = module.to(self.device)
            yield
