"""What engine sets ran, for tests: an observer, and a set whose engines cost nothing."""

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hero_rt.engines.engine import Binding, Engine, EngineSet, ModuleEngine, Observer
from hero_rt.spec.boundary import submodule_io
from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import Profile


class Recorder(Observer):
    """`runs` counts runs by submodule, `bound` holds the constants of each binding of the step, once each, in order."""

    def __init__(self, engines: EngineSet):
        engines.observers.append(self)
        self.runs: Counter[str] = Counter()
        self.bound: list[dict[str, Tensor]] = []
        self.on_run: Callable[[str, Mapping[str, Tensor]], object] = lambda name, inputs: None
        self._seen: list[Binding] = []

    def before_run(self, engine: Engine, binding: Binding, inputs: Mapping[str, Tensor]) -> None:
        self.runs[engine.submodule] += 1
        self.on_run(engine.submodule, inputs)
        if engine.submodule == "unet_step" and binding not in self._seen:
            self._seen.append(binding)
            self.bound.append({name: tensor.clone() for name, tensor in binding.constants.items()})


class ZeroEngines(EngineSet):
    """Engines that return zeros, and a decoder whose frames are of one grey a window: 1/8, 2/8, ..."""

    def __init__(self) -> None:
        super().__init__(HeroConfig.from_preset("hero-tiny"), torch.float32, torch.device("cpu"))
        self.config = type(self.config)(**(vars(self.config) | {"canvas_fill": "grey"}))
        self.decoded = 0

    def _open(self, submodule: str, profile: Profile) -> Engine:
        inputs, outputs = submodule_io(submodule, self.config, profile, self.dtype)

        def forward(*_: Tensor) -> tuple[Tensor, ...]:
            level = 0.0
            if submodule == "vae_decoder":
                self.decoded += 1
                level = self.decoded / 8 - 1
            return tuple(torch.full(spec.shape, level) for spec in outputs.values())

        return ModuleEngine(f"zeros {submodule}", forward, inputs, outputs)
