"""What a suite is given: the settings, the machine's ceilings, models, a place to say what cannot run."""

import copy
import functools
import hashlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.clip import ClipJob, ClipOutcome, run_in_fresh_process
from benchmarks.contenders import BuiltEngines, contender_names, open_contender
from benchmarks.roofline import clip_work
from benchmarks.schema import Ceilings, OperatorTime, Unavailable, Work
from benchmarks.settings import Settings
from hero_export.thresholds import THRESHOLDS, Thresholds
from hero_rt.engines.eager import EagerEngines
from hero_rt.engines.engine import EngineSet
from hero_rt.engines.manifest import DTYPES
from hero_rt.errors import HeroError
from hero_rt.models.hero import HeroModel
from hero_rt.spec.boundary import SUBMODULES
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
    def limits(self) -> Thresholds:
        """What the run's dtype is held to."""
        return THRESHOLDS[self.settings.dtype]

    def case_name(self, profile: Profile, *more: object) -> str:
        """Preset, profile, dtype, and what else tells a case from others."""
        return " ".join(map(str, (self.settings.preset, profile, self.settings.dtype, *more)))

    def clip_work(self, profile: Profile, steps: int, windows: int = 1) -> Work:
        return clip_work(self.settings.preset, self.settings.dtype, profile, steps, windows)

    @functools.cached_property
    def model(self) -> HeroModel:
        """What the eager contenders run: the truth's weights in the run's dtype."""
        config, dtype = self.settings.config, DTYPES[self.settings.dtype]
        return HeroModel(config, lambda part: copy.deepcopy(self.truth.model[part]), dtype, self.device)

    @functools.cached_property
    def truth(self) -> EagerEngines:
        """The checkpoint in twice the run's precision."""
        wider = {"fp16": torch.float32, "fp32": torch.float64}[self.settings.dtype]
        return EagerEngines(HeroModel.from_pretrained(self._checkpoint, wider, self.device))

    @property
    def truth_name(self) -> str:
        return f"eager {str(self.truth.dtype).removeprefix('torch.')}"

    @functools.cached_property
    def _checkpoint(self) -> Path:
        """Random weights in the run's dtype, zero-initialised layers and alphas drawn too: made once."""
        settings = self.settings
        digest = hashlib.sha256(repr(settings.config).encode()).hexdigest()[:12]
        folder = settings.cache / f"{settings.preset}-{settings.dtype}-checkpoint-{digest}"
        if not (folder / "model_index.json").is_file():
            HeroModel.random(settings.config, dtype=DTYPES[settings.dtype]).save_pretrained(folder)
        return folder

    def fresh(self, name: str, engines: EngineSet, *clip: Any) -> Callable[[], ClipOutcome]:
        """Run a clip in a process of its own, each call in another. clip: of `ClipJob`, from the profile on.

        It opens these engines' folder, or the eager models' weights as a checkpoint. Raises HeroError without these.
        """
        folder = engines.folder(clip[0]).folder if isinstance(engines, BuiltEngines) else self._checkpoint
        return partial(run_in_fresh_process, ClipJob(self.settings, name, folder, *clip))

    @contextmanager
    def contenders(self, compiled: bool = False) -> Iterator[dict[str, EngineSet]]:
        """Those that run here, closed at the end; the others go to `unavailable` with the reason."""
        names = contender_names(self.settings, compiled)
        opened = {name: self.attempt(name, partial(open_contender, self.settings, name, self.model)) for name in names}
        with ExitStack() as held:
            yield {name: held.enter_context(engines) for name, engines in opened.items() if engines is not None}

    def opens(self, name: str, engines: EngineSet, profile: Profile) -> bool:
        """Whether all six engines can be had here; why not is reported."""
        return None is not self.attempt(f"{name} {profile}", lambda: [engines.open(s, profile) for s in SUBMODULES])

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
