"""Building an engine folder: each engine in a fresh process, finished ones kept, the manifest written last."""

import json
import multiprocessing
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from filelock import FileLock, Timeout

from hero_export.formats import SUFFIXES, BuildSettings, FinishedEngine, build_engine, build_key, versions
from hero_kernels.onnx import function_digest
from hero_rt import __version__
from hero_rt.engines.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    Manifest,
    engine_profile,
    read_manifest,
    write_manifest,
)
from hero_rt.errors import EngineError, HeroError
from hero_rt.models.submodules import SUBMODULES
from hero_rt.profile import Profile

RECORDS = ".records"  # one finished engine a file, until the manifest takes them over


def build_engines(
    settings: BuildSettings,
    folder: Path,
    profiles: Sequence[Profile],
    report: Callable[[FinishedEngine, bool], None] = lambda engine, reused: None,
    jobs: int = 1,
) -> Manifest:
    """Build the six submodules at `profiles` into `folder`, and write its manifest.

    Engines already there are kept where everything that determines them is equal, and so are the folder's other
    profiles; `report` hears of each engine and whether it was kept. `jobs` engines are built at once, each with
    memory of its own. Raises EngineError where another build holds the folder or it was built from something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            return _build(settings, folder, profiles, report, jobs)
    except Timeout as error:
        raise EngineError(f"another build is writing {folder}; wait for it or choose another --out") from error


def _build(
    settings: BuildSettings,
    folder: Path,
    profiles: Sequence[Profile],
    report: Callable[[FinishedEngine, bool], None],
    jobs: int,
) -> Manifest:
    target = settings.target
    config = settings.checkpoint.load().config.to_dict()
    weights = settings.checkpoint.digest()
    previous = _previous_manifest(folder)
    if previous is not None:
        _check_same_origin(previous, folder, settings)
        profiles = [*{*profiles, *map(Profile.parse, previous.profiles)}]
    finished = _finished_engines(folder, previous)

    def finish(task: tuple[str, Profile]) -> tuple[FinishedEngine, bool]:
        submodule, profile = task
        file = settings.file_name(submodule, profile)
        key = build_key(settings, submodule, profile, config, weights)
        done = finished.get(file)
        if done is not None and done.engine.build_key == key and done.intact(folder):
            return done, True
        done = _in_fresh_process(settings, submodule, profile, folder / file, key)
        _write_record(folder, done)
        return done, False

    engines: list[FinishedEngine] = []
    with ThreadPoolExecutor(jobs) as threads:  # each thread waits for a process
        for done, reused in threads.map(finish, engine_tasks(profiles)):
            engines.append(done)
            report(done, reused)

    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        tool_version=__version__,
        format=settings.format,  # type: ignore[arg-type]
        dtype=settings.dtype,  # type: ignore[arg-type]
        checkpoint=settings.checkpoint.arguments,
        model=config,
        kernel_digest=function_digest(),
        target=target,
        engines=[done.engine for done in engines],
        files={name: record for done in engines for name, record in done.files.items()},
    )
    write_manifest(folder, manifest)
    shutil.rmtree(folder / RECORDS, ignore_errors=True)  # the manifest has taken them over
    _remove_strays(folder, manifest)
    return manifest


def engine_tasks(profiles: Sequence[Profile]) -> list[tuple[str, Profile]]:
    """(submodule, profile) of every engine that `profiles` need; only the denoising step is built per guidance."""
    tasks = {(name, engine_profile(name, profile)) for profile in profiles for name in SUBMODULES}
    return sorted(tasks, key=lambda task: (str(task[1]), SUBMODULES.index(task[0])))


def build_report(manifest: Manifest) -> str:
    """JSON for benchmarks/results: the machine, the versions, and what each engine of a folder took to build."""
    engines = [
        {
            "engine": f"{engine.submodule} {engine.profile}",
            **engine.build_flags,
            "engine_bytes": manifest.files[engine.file].bytes,
            "weights_bytes": sum(manifest.files[name].bytes for name in engine.weights),
            "seconds": engine.build_seconds,
            "peak_memory_bytes": engine.peak_memory_bytes,
        }
        for engine in manifest.engines
    ]
    report = {
        "model": manifest.config.name,
        "checkpoint": manifest.checkpoint,
        "format": manifest.format,
        "dtype": manifest.dtype,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": versions(),
        "engines": engines,
    }
    return json.dumps(report, indent=2) + "\n"


def _in_fresh_process(
    settings: BuildSettings, submodule: str, profile: Profile, path: Path, key: str
) -> FinishedEngine:
    """One build a process: its memory is given back whole, and its peak is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(build_engine, settings, submodule, profile, path, key).result()
        except BrokenProcessPool as error:
            raise HeroError(
                f"the process building {submodule} at {profile} was killed, most often for want of memory; "
                "run the command again with more free (finished engines are kept)"
            ) from error


def _write_record(folder: Path, done: FinishedEngine) -> None:
    path = folder / RECORDS / f"{done.engine.file}.json"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(done.model_dump_json())
    os.replace(temporary, path)


def _finished_engines(folder: Path, previous: Manifest | None) -> dict[str, FinishedEngine]:
    """By file name: those of the last whole build, then those of one that was interrupted."""
    found: dict[str, FinishedEngine] = {}
    if previous is not None:
        for engine in previous.engines:
            names = (engine.file, *engine.weights)
            if previous.files.keys() >= set(names):  # a manifest that lost one is to be built anew, not to crash on
                files = {name: previous.files[name] for name in names}
                found[engine.file] = FinishedEngine(engine=engine, files=files)
    for path in (folder / RECORDS).glob("*.json"):
        done = FinishedEngine.model_validate_json(path.read_text())
        found[done.engine.file] = done
    return found


def _previous_manifest(folder: Path) -> Manifest | None:
    """None where there is none, or where it cannot be read: then everything is built anew."""
    if not (folder / MANIFEST_NAME).is_file():
        return None
    try:
        return read_manifest(folder)
    except EngineError:
        return None


def _check_same_origin(previous: Manifest, folder: Path, settings: BuildSettings) -> None:
    asked = {"format": settings.format, "dtype": settings.dtype, "checkpoint": settings.checkpoint.arguments}
    for field, value in asked.items():
        if (seen := getattr(previous, field)) != value:
            raise EngineError(
                f"{folder} holds engines of {field} {seen!r}, this build is of {value!r}; "
                "choose another --out, or delete that folder first"
            )


def _remove_strays(folder: Path, manifest: Manifest) -> None:
    """Weights and graphs of engines that this build replaced, and what killed builds left."""
    for path in folder.iterdir():
        if path.suffix in (".data", *SUFFIXES.values()) and path.name not in manifest.files:
            path.unlink()
