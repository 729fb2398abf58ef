"""Builds an engine folder: each engine in a process of its own, and the manifest last. Finished engines are kept."""

import errno
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from hero_export.engine_build import BuildSettings, EngineTask, FinishedEngine, build_key, versions
from hero_export.worker import PhaseReport, Workers
from hero_kernels.onnx import function_digest
from hero_rt import __version__
from hero_rt.atomic import publish, write_atomically
from hero_rt.engines.manifest import SCHEMA_VERSION, Manifest, read_manifest, write_manifest
from hero_rt.errors import EngineError, HeroError
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import AnyProfile, parse_profile

RECORDS = ".records"  # a file for each finished engine, until the manifest is written
_LOCK = ".lock"
_SCRATCH = ".build-"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
_OURS = (".onnx", ".data", ".pt2", ".plan", ".so")


def build_engines(
    settings: BuildSettings,
    folder: Path,
    profiles: Sequence[AnyProfile],
    report: Callable[[FinishedEngine, bool], None] = lambda engine, reused: None,
    jobs: int = 1,
    on_phase: PhaseReport = lambda phase, done, total: None,
) -> Manifest:
    """Build the six submodules at `profiles` into `folder`, and write its manifest.

    An existing engine is kept if everything that determines it is equal. Other profiles of the folder are kept too.

    Args:
        settings: checkpoint, format, dtype and options.
        folder: engine folder to create or extend.
        profiles: shapes, or ranges of shapes.
        report: called with each engine, and whether it was kept.
        jobs: engines that are built at once, each with memory of its own.
        on_phase: called with the phase of an engine, steps done, and steps in all.

    Returns:
        The manifest of the folder.

    Raises:
        EngineError: another build is writing the folder, or it holds engines of another checkpoint, format or dtype.
        HeroError: the folder cannot be written, or a build failed.
        UsageError: the format takes no range of shapes.
    """
    settings = settings.resolved()
    for profile in profiles:
        settings.builder.check_profile(profile)
    # before the folder is made: these refuse a build that cannot run here
    target, weights = settings.target, settings.checkpoint.digest()
    config = settings.checkpoint.load().config.to_dict()
    with _locked(folder):
        _remove_scratch(folder)
        previous = _previous_manifest(folder)
        if previous is not None:
            _check_same_origin(previous, folder, settings)
        profiles = all_profiles(folder, profiles)
        finished = _finished_engines(folder, previous)

        def finish(task: tuple[str, AnyProfile]) -> tuple[FinishedEngine, bool]:
            submodule, profile = task
            file = settings.file_name(submodule, profile)
            key = build_key(settings, submodule, profile, config, weights)
            done = finished.get(file)
            if done is not None and done.engine.build_key == key and done.intact(folder):
                return done, True
            return _make(workers, EngineTask(settings, submodule, profile, folder / file, key), on_phase), False

        engines: list[FinishedEngine] = []
        with (
            settings.builder.environment(),
            ThreadPoolExecutor(jobs) as threads,  # each waits for a process
            Workers() as workers,
        ):
            for done, reused in threads.map(finish, engine_tasks(profiles)):
                engines.append(done)
                report(done, reused)

        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            tool_version=__version__,
            build=settings.spec,
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


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Create the folder if it is missing, and hold its lock. An error that says it cannot be written is a HeroError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=0):
            yield
    except Timeout as error:
        raise EngineError(f"another build is writing {folder}; wait for it or choose another --out") from error
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise HeroError(
            f"{folder} cannot be written: {error.strerror or error}; make room or choose another --out, and run the "
            "command again (finished engines are kept)"
        ) from error


def all_profiles(folder: Path, profiles: Sequence[AnyProfile]) -> list[AnyProfile]:
    """Return `profiles` and the profiles that `folder` already holds."""
    previous = _previous_manifest(folder)
    return [*{*profiles, *map(parse_profile, previous.profiles if previous is not None else [])}]


def engine_tasks(profiles: Sequence[AnyProfile]) -> list[tuple[str, AnyProfile]]:
    """Return (submodule, profile) of every engine that `profiles` need. Only the denoising step depends on guidance.

    The denoising step comes first. It takes longest, so nothing else would run beside it at the end.
    """
    tasks = {(name, profile.of(name)) for profile in profiles for name in SUBMODULES}
    return sorted(tasks, key=lambda task: (task[0] != "unet_step", str(task[1]), SUBMODULES.index(task[0])))


def build_report(manifest: Manifest) -> str:
    """Return JSON for benchmarks/results: the machine, the versions, and the cost of building each engine."""
    engines = [
        {
            "engine": f"{engine.submodule} {engine.profile}",
            **engine.build_flags,
            **{name: value for name, value in engine.contents.items() if name not in ("layers", "warnings")},
            "engine_bytes": manifest.files[engine.file].bytes,
            "weights_bytes": sum(manifest.files[name].bytes for name in engine.weights),
            "seconds": engine.build_seconds,
            "peak_memory_bytes": engine.peak_memory_bytes,
        }
        for engine in manifest.engines
    ]
    report = {
        "model": manifest.config.name,
        "checkpoint": manifest.build.checkpoint,
        "format": manifest.build.format,
        "dtype": manifest.build.dtype,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": versions(),
        "engines": engines,
    }
    return json.dumps(report, indent=2) + "\n"


def _make(workers: Workers, task: EngineTask, on_phase: PhaseReport) -> FinishedEngine:
    """Build in a scratch folder, move the files into place, then record them. A killed build leaves no record."""
    started, path = time.perf_counter(), task.path
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_SCRATCH) as scratch:
        done = workers.build(task._replace(path=Path(scratch, path.name)), on_phase)
        done.engine.build_seconds = round(time.perf_counter() - started, 2)  # with the start of its process
        for name in done.files:
            publish(Path(scratch, name), path.parent / name)
    records = path.parent / RECORDS
    records.mkdir(exist_ok=True)
    write_atomically(records / f"{path.name}.json", done.model_dump_json().encode())
    return done


def _finished_engines(folder: Path, previous: Manifest | None) -> dict[str, FinishedEngine]:
    """Return finished engines by file name: of the last complete build, and of an interrupted one."""
    found: dict[str, FinishedEngine] = {}
    if previous is not None:
        for engine in previous.engines:
            names = (engine.file, *engine.weights)
            if previous.files.keys() >= set(names):  # an engine with a missing file record is built again
                files = {name: previous.files[name] for name in names}
                found[engine.file] = FinishedEngine(engine=engine, files=files)
    for path in (folder / RECORDS).glob("*.json"):
        try:
            done = FinishedEngine.model_validate_json(path.read_bytes())
        except ValidationError:
            continue  # the record cannot be read, so its engine is built again
        found[done.engine.file] = done
    return found


def _previous_manifest(folder: Path) -> Manifest | None:
    """Return the manifest. Return None if it is missing or cannot be read; every engine is then built again."""
    try:
        return read_manifest(folder)
    except EngineError:
        return None


def _check_same_origin(previous: Manifest, folder: Path, settings: BuildSettings) -> None:
    asked = settings.spec
    for field in ("format", "dtype", "checkpoint", "preset", "seed"):
        if (seen := getattr(previous.build, field)) != (value := getattr(asked, field)):
            raise EngineError(
                f"{folder} holds engines of {field} {seen!r}, this build is of {value!r}; "
                "choose another --out, or delete that folder first"
            )


def _remove_strays(folder: Path, manifest: Manifest) -> None:
    """Delete engine files that the manifest does not list: replaced ones, and files of killed builds."""
    for path in folder.iterdir():
        if path.suffix in _OURS and path.name not in manifest.files:
            path.unlink()


def _remove_scratch(folder: Path) -> None:
    """Delete the scratch folders of killed builds. The lock is held, so no build uses them."""
    for path in {*folder.glob(".*")} - {folder / _LOCK, folder / RECORDS}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
