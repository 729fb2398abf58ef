"""What a suite is given: the settings, the machine's ceilings, models, a place to say what cannot run."""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from benchmarks.contenders import open_contender
from benchmarks.schema import Ceilings, OperatorTime, Unavailable
from benchmarks.settings import Settings
from benchmarks.timing import Clock, HostClock, step_clock
from hero_rt.engines.eager import EagerEngines
from hero_rt.engines.engine import EngineSet
from hero_rt.engines.manifest import DTYPES
from hero_rt.errors import HeroError
from hero_rt.models.hero import HeroModel


@dataclass
class Context:
    """One run. `say` shows a line while the run goes on."""

    settings: Settings
    ceilings: Ceilings
    say: Callable[[str], None]
    unavailable: list[Unavailable] = field(default_factory=list)
    operators: dict[str, list[OperatorTime]] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return torch.device(self.settings.device)

    @property
    def step_clock(self) -> Clock:
        """For single kernels and steps."""
        return step_clock(self.device, self.settings.clock)

    @property
    def host_clock(self) -> Clock:
        """For whole clips."""
        return HostClock(self.device, self.settings.clock)

    @functools.cached_property
    def model(self) -> HeroModel:
        """What the eager contenders run: the truth's weights in the run's dtype."""

        def narrowed(part: str) -> nn.Module:
            return copy.deepcopy(self.truth.model[part])

        return HeroModel(self.settings.config, narrowed, DTYPES[self.settings.dtype], self.device)

    @functools.cached_property
    def truth(self) -> EagerEngines:
        """Random weights, zero-initialised layers and alphas drawn too, in twice the run's precision."""
        wider = {"fp16": torch.float32, "fp32": torch.float64}[self.settings.dtype]
        return EagerEngines(HeroModel.random(self.settings.config, 0, wider, self.device))

    @property
    def truth_name(self) -> str:
        return f"eager {str(self.truth.dtype).removeprefix('torch.')}"

    def open(self, names: Sequence[str]) -> dict[str, EngineSet]:
        """Those that run here; the others go to `unavailable` with the reason."""
        opened = {}
        for name in names:
            try:
                opened[name] = open_contender(self.settings, name, self.model)
            except HeroError as error:
                self.skip(name, str(error))
        return opened

    def skip(self, name: str, reason: str) -> None:
        if all(known.name != name for known in self.unavailable):
            self.unavailable.append(Unavailable(name=name, reason=reason))
            self.say(f"{name}: not available here: {reason}")
