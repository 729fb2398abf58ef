"""Engines of an export format, built when first asked for and kept between runs."""

import os
from pathlib import Path

import torch

from benchmarks.settings import Settings
from hero_export.build import build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_rt.engines.backend import backend
from hero_rt.engines.engine import Engine, EngineSet
from hero_rt.engines.folder import EngineFolder
from hero_rt.engines.manifest import DTYPES
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile

AUTOTUNED = "-max-autotune"
_CORES_A_BUILD = 2


def check_available(settings: Settings, format: str) -> None:
    """Raises EngineError where engines of this format cannot run on the run's device, saying why."""
    wanted, chosen = torch.device(settings.device), backend(format)
    here = chosen.this_machine(wanted)
    if wanted.type == "cuda" and chosen.default_device().type != "cuda":
        raise EngineError(f"{format} as it is installed here runs on the CPU only")
    if difference := chosen.mismatch(here, here):
        raise EngineError(f"{format}: {difference}")


class BuiltEngines(EngineSet):
    """One format at the run's preset, dtype and device; `name` ends in `-max-autotune` for AOTInductor's.

    One folder a canvas, built by the exporter as a user's is. Building is not timed.
    """

    def __init__(self, settings: Settings, name: str):
        self.format = name.removesuffix(AUTOTUNED)
        check_available(settings, self.format)
        self._run = settings
        options = {"device": settings.device, "max_autotune": name.endswith(AUTOTUNED)} if self.format == "aoti" else {}
        self._build = BuildSettings.of(Checkpoint("random", settings.preset), self.format, settings.dtype, **options)
        super().__init__(settings.config, DTYPES[settings.dtype], torch.device(settings.device))
        self._root = settings.cache / f"{settings.preset}-{settings.dtype}-{name}-{self.device.type}"
        self._folders: dict[Profile, EngineFolder] = {}

    def folder(self, profile: Profile) -> EngineFolder:
        """The folder of a profile's canvas, with every engine that the run asks for at that canvas.

        Raises HeroError where one cannot be built or opened here.
        """
        if profile not in self._folders:
            path = self._root / f"{profile.width}x{profile.height}x{profile.frames}"
            asked = self._run.profiles()
            same = [profile, *(p for p in asked if (p.width, p.height) == (profile.width, profile.height))]
            jobs = max(1, min(len(SUBMODULES), (os.cpu_count() or 1) // _CORES_A_BUILD))
            build_engines(self._build, path, list(dict.fromkeys(same)), jobs=jobs)
            self._folders |= dict.fromkeys(same, EngineFolder(path, self._run.device))
        return self._folders[profile]

    def file(self, submodule: str, profile: Profile) -> Path:
        """Of one engine."""
        opened = self.folder(profile)
        record = opened.manifest.find(submodule, profile)
        if record is None:
            raise EngineError(f"{opened.folder} has no {submodule} engine for {profile}")
        return opened.folder / record.file

    def _open(self, submodule: str, profile: Profile) -> Engine:
        return self.folder(profile).open(submodule, profile)

    def _close(self) -> None:
        for folder in self._folders.values():
            folder.close()
        self._folders.clear()
