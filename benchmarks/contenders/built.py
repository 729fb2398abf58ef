"""Engines of an export format, built when first asked for and kept between runs."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from benchmarks.settings import Settings
from hero_export.build import RECORDS, build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.formats import BuildSettings, FinishedEngine, build_engine, build_key
from hero_rt.engines.backend import backend
from hero_rt.engines.engine import Engine
from hero_rt.engines.manifest import DTYPES, FileRecord, engine_profile
from hero_rt.errors import EngineError
from hero_rt.models.submodules import SUBMODULES
from hero_rt.profile import Profile

_KEPT = ".kept"  # a record of each finished engine; the exporter's own are gone once there is a manifest
AUTOTUNED = "-max-autotune"


def build_settings(settings: Settings, name: str) -> BuildSettings:
    """`name` is an engine format, with `-max-autotune` for AOTInductor's."""
    checkpoint = Checkpoint("random", settings.preset)
    format = name.removesuffix(AUTOTUNED)
    return BuildSettings(checkpoint, format, settings.dtype, settings.device, max_autotune=name.endswith(AUTOTUNED))


def check_available(settings: Settings, name: str) -> None:
    """Raises EngineError where engines of this format cannot run on the run's device, saying why."""
    chosen = build_settings(settings, name)
    here, wanted = backend(chosen.format).default_device().type, torch.device(settings.device).type
    if wanted == "cuda" and here != "cuda":
        raise EngineError(f"{name} would run on the {here} of this machine, the run is for {wanted}")
    target = chosen.target
    if difference := backend(chosen.format).mismatch(target, target):
        raise EngineError(f"{name}: {difference}")


class BuiltEngines:
    """One format at the run's preset, dtype and device. Building is not timed; a kept engine is used if it is whole."""

    def __init__(self, settings: Settings, name: str):
        check_available(settings, name)
        self._settings = build_settings(settings, name)
        self.config, self.dtype = settings.config, DTYPES[settings.dtype]
        self.device = torch.device(settings.device)
        self._root = settings.cache / f"{settings.preset}-{settings.dtype}-{name}-{self.device.type}"
        self._engines: dict[Path, Engine] = {}

    def open(self, submodule: str, profile: Profile) -> Engine:
        profile = engine_profile(submodule, profile)
        path = self.folder(profile) / self._settings.file_name(submodule, profile)
        if path not in self._engines:
            done = self._finished(submodule, profile)
            inputs, outputs = done.engine.specs("inputs"), done.engine.specs("outputs")
            self._engines[path] = backend(self._settings.format).open_engine(path, inputs, outputs, self.device)
        return self._engines[path]

    def folder(self, profile: Profile) -> Path:
        """One a canvas, so that a run at another size deletes nothing."""
        return self._root / f"{profile.width}x{profile.height}x{profile.frames}"

    def complete(self, profiles: Sequence[Profile]) -> Path:
        """A folder that the runtime opens, whole: the engines built so far and those missing for one canvas."""
        folder = self.folder(profiles[0])
        (folder / RECORDS).mkdir(parents=True, exist_ok=True)
        for record in (folder / _KEPT).glob("*.json"):
            (folder / RECORDS / record.name).write_text(record.read_text())
        manifest = build_engines(self._settings, folder, profiles)
        for engine in manifest.engines:
            files = {name: manifest.files[name] for name in (engine.file, *engine.weights)}
            _keep(folder, FinishedEngine(engine=engine, files=files))
        return folder

    def stored_bytes(self, profile: Profile) -> int:
        """Of the files that the six engines of one profile read, shared ones once."""
        files: dict[str, FileRecord] = {}
        for submodule in SUBMODULES:
            files |= self._finished(submodule, engine_profile(submodule, profile)).files
        return sum(record.bytes for record in files.values())

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def _finished(self, submodule: str, profile: Profile) -> FinishedEngine:
        path = self.folder(profile) / self._settings.file_name(submodule, profile)
        record = path.parent / _KEPT / f"{path.name}.json"
        checkpoint = self._settings.checkpoint
        key = build_key(self._settings, submodule, profile, self.config.to_dict(), checkpoint.digest())
        if record.is_file():
            done = FinishedEngine.model_validate_json(record.read_text())
            if done.engine.build_key == key and done.intact(path.parent):
                return done
        path.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")  # its memory is given back whole
        with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
            done = pool.submit(build_engine, self._settings, submodule, profile, path, key).result()
        _keep(path.parent, done)
        return done


def _keep(folder: Path, done: FinishedEngine) -> None:
    path = folder / _KEPT / f"{done.engine.file}.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(done.model_dump_json())
    os.replace(temporary, path)
