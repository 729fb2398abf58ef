"""What a suite is given: the settings, the machine's ceilings, models, a place to say what cannot run."""

import copy
import functools
import hashlib
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from benchmarks.contenders import open_contender
from benchmarks.contenders.built import BuiltEngines
from benchmarks.schema import Ceilings, OperatorTime, Unavailable
from benchmarks.settings import Settings
from benchmarks.timing import Clock, HostClock, kernel_clock, step_clock
from hero_rt.engines.eager import EagerEngines
from hero_rt.engines.engine import EngineSet
from hero_rt.engines.manifest import DTYPES
from hero_rt.errors import HeroError
from hero_rt.models.hero import HeroModel
from hero_rt.spec.profile import Profile

T = TypeVar("T")


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
        """For denoising steps."""
        return step_clock(self.device)

    def kernel_clock(self, calls: int) -> Clock:
        """For kernels, `calls` in a row."""
        return kernel_clock(self.device, calls)

    @property
    def host_clock(self) -> Clock:
        """For whole clips."""
        return HostClock(self.device)

    @functools.cached_property
    def model(self) -> HeroModel:
        """What the eager contenders run: the truth's weights in the run's dtype."""

        def narrowed(part: str) -> nn.Module:
            return copy.deepcopy(self.truth.model[part])

        return HeroModel(self.settings.config, narrowed, DTYPES[self.settings.dtype], self.device)

    @functools.cached_property
    def truth(self) -> EagerEngines:
        """The checkpoint in twice the run's precision."""
        wider = {"fp16": torch.float32, "fp32": torch.float64}[self.settings.dtype]
        return EagerEngines(HeroModel.from_pretrained(self._checkpoint, wider, self.device))

    def folder(self, engines: EngineSet, profile: Profile) -> Path:
        """What a process of its own opens: these engines' folder, or the eager models' weights as a checkpoint."""
        return engines.complete(profile) if isinstance(engines, BuiltEngines) else self._checkpoint

    @functools.cached_property
    def _checkpoint(self) -> Path:
        """Random weights in the run's dtype, zero-initialised layers and alphas drawn too: made once."""
        settings = self.settings
        digest = hashlib.sha256(repr(settings.config).encode()).hexdigest()[:12]
        folder = settings.cache / f"{settings.preset}-{settings.dtype}-checkpoint-{digest}"
        if not (folder / "model_index.json").is_file():
            HeroModel.random(settings.config, dtype=DTYPES[settings.dtype]).save_pretrained(folder)
        return folder

    @property
    def truth_name(self) -> str:
        return f"eager {str(self.truth.dtype).removeprefix('torch.')}"

    def open(self, names: Sequence[str]) -> dict[str, EngineSet]:
        """Those that run here; the others go to `unavailable` with the reason."""
        opened = {name: self.attempt(name, partial(open_contender, self.settings, name, self.model)) for name in names}
        return {name: engines for name, engines in opened.items() if engines is not None}

    def attempt(self, name: str, work: Callable[[], T]) -> T | None:
        """What `work` returns; None where it fails, which goes to `unavailable` with the reason.

        A compiler, a driver or a library that gives up on one contender must not cost the others their figures.
        """
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - these raise what they like, and it is reported
            reason = (str(error).strip().splitlines() or [""])[0]
            if not isinstance(error, HeroError):
                reason = f"{type(error).__name__}: {reason}"
                traceback.print_exc()  # nobody expected it: the line by itself would not say where
        if all(known.name != name for known in self.unavailable):
            self.unavailable.append(Unavailable(name=name, reason=reason))
            self.say(f"{name}: not available here: {reason}")
        return None
