"""Holds what a suite needs: settings, ceilings of the machine, models, and a list of what cannot run."""

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
    """One run. `say` prints a line of progress."""

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
        """The error limits for the dtype of the run."""
        return THRESHOLDS[self.settings.dtype]

    def case_name(self, profile: Profile, *more: object) -> str:
        """Return the name of a case: preset, profile, dtype, and `more`."""
        return " ".join(map(str, (self.settings.preset, profile, self.settings.dtype, *more)))

    def clip_work(self, profile: Profile, steps: int, windows: int = 1) -> Work:
        return clip_work(self.settings.preset, self.settings.dtype, profile, steps, windows)

    @functools.cached_property
    def model(self) -> HeroModel:
        """Return the model for eager contenders: the weights of the truth in the dtype of the run."""
        config, dtype = self.settings.config, DTYPES[self.settings.dtype]
        return HeroModel(config, lambda part: copy.deepcopy(self.truth.model[part]), dtype, self.device)

    @functools.cached_property
    def truth(self) -> EagerEngines:
        """Return the reference: the checkpoint in twice the precision of the run."""
        wider = {"fp16": torch.float32, "fp32": torch.float64}[self.settings.dtype]
        return EagerEngines(HeroModel.from_pretrained(self._checkpoint, wider, self.device))

    @property
    def truth_name(self) -> str:
        return f"eager {str(self.truth.dtype).removeprefix('torch.')}"

    @functools.cached_property
    def _checkpoint(self) -> Path:
        """Return a folder of random weights in the dtype of the run, made once. No layer is zero."""
        settings = self.settings
        digest = hashlib.sha256(repr(settings.config).encode()).hexdigest()[:12]
        folder = settings.cache / f"{settings.preset}-{settings.dtype}-checkpoint-{digest}"
        if not (folder / "model_index.json").is_file():
            HeroModel.random(settings.config, dtype=DTYPES[settings.dtype]).save_pretrained(folder)
        return folder

    def fresh(self, name: str, engines: EngineSet, *clip: Any) -> Callable[[], ClipOutcome]:
        """Run a clip in a new process. `clip` holds the fields of `ClipJob` from `profile` on.

        The process opens the engine folder, or the checkpoint of an eager contender. Raises HeroError without either.
        """
        folder = engines.folder(clip[0]).folder if isinstance(engines, BuiltEngines) else self._checkpoint
        return partial(run_in_fresh_process, ClipJob(self.settings, name, folder, *clip))

    @contextmanager
    def contenders(self, compiled: bool = False) -> Iterator[dict[str, EngineSet]]:
        """Open the contenders that run here, and close them at the end. Others go to `unavailable` with the reason."""
        names = contender_names(self.settings, compiled)
        opened = {name: self.attempt(name, partial(open_contender, self.settings, name, self.model)) for name in names}
        with ExitStack() as held:
            yield {name: held.enter_context(engines) for name, engines in opened.items() if engines is not None}

    def opens(self, name: str, engines: EngineSet, profile: Profile) -> bool:
        """Return whether all six engines open here. A failure is reported."""
        return None is not self.attempt(f"{name} {profile}", lambda: [engines.open(s, profile) for s in SUBMODULES])

    def attempt(self, name: str, work: Callable[[], T]) -> T | None:
        """Return the result of `work`, or None if it fails. The failure goes to `unavailable`.

        A compiler, driver or library that fails on one contender must not stop the others.
        """
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - compilers raise any type, and the error is reported
            reason = (str(error).strip().splitlines() or [""])[0]
            if not isinstance(error, HeroError):
                reason = f"{type(error).__name__}: {reason}"
                traceback.print_exc()  # an unexpected error needs its traceback
        if all(known.name != name for known in self.unavailable):
            self.unavailable.append(Unavailable(name=name, reason=reason))
            self.say(f"{name}: not available here: {reason}")
        return None
