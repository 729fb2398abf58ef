"""Builds one engine: its settings, the key that determines it, and the build, which runs in a process of its own."""

import functools
import hashlib
import json
import resource
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from hero_export.builders import Builder, BuilderOptions, EngineJob, find_builder
from hero_export.builders.builder import Progress
from hero_export.checkpoint import Checkpoint
from hero_kernels.onnx import function_digest
from hero_rt import __version__
from hero_rt.cli_options import parse_options
from hero_rt.engines.manifest import DTYPES, BuildSpec, EngineRecord, FileRecord, Target, record_of, tensor_records
from hero_rt.errors import UsageError
from hero_rt.spec.boundary import submodule_boundary
from hero_rt.spec.profile import AnyProfile


@dataclass(frozen=True)
class BuildSettings:
    """Everything that a build needs, except the shapes. `BuildSettings.of` makes one."""

    checkpoint: Checkpoint
    builder: Builder
    dtype: str
    options: BuilderOptions

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, format: str = "onnxruntime", dtype: str | None = None, **options: Any
    ) -> "BuildSettings":
        """Make settings from names.

        Args:
            checkpoint: the weights.
            format: onnxruntime, aoti, tensorrt or tensorrt-rtx.
            dtype: "fp32" or "fp16"; default: the format's.
            options: fields of the builder's options.

        Raises:
            UsageError: an unknown format, dtype or option.
        """
        builder = find_builder(format)
        dtype = dtype or builder.default_dtype
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        return cls(checkpoint, builder, dtype, parse_options(builder.Options, options))

    def resolved(self) -> "BuildSettings":
        """Fill in options that depend on this machine. Raises UsageError or HeroError if it cannot build them."""
        return replace(self, options=self.builder.resolve(self.options))

    @property
    def format(self) -> str:
        return self.builder.format

    @property
    def target(self) -> Target:
        return self.builder.target(self.options)

    @property
    def spec(self) -> BuildSpec:
        """The settings as the manifest records them."""
        return BuildSpec(
            checkpoint=self.checkpoint.name,
            preset=self.checkpoint.preset,
            seed=self.checkpoint.seed,
            format=self.format,
            dtype=self.dtype,
            options=self.options.model_dump(mode="json", exclude_defaults=True),
        )

    def file_name(self, submodule: str, profile: AnyProfile) -> str:
        return f"{submodule}.{profile}{self.builder.suffix}"


class FinishedEngine(BaseModel):
    """A complete engine and its files."""

    engine: EngineRecord
    files: dict[str, FileRecord]

    def intact(self, folder: Path) -> bool:
        """Return whether every file is as it was built."""
        return all(
            (folder / name).is_file() and record_of(folder / name) == record for name, record in self.files.items()
        )


class EngineTask(NamedTuple):
    """One engine to build: at `path`, in a folder of its own. `key` is its build key."""

    settings: BuildSettings
    submodule: str
    profile: AnyProfile
    path: Path
    key: str


def build_engine(task: EngineTask, progress: Progress) -> FinishedEngine:
    """Build one engine. Return it with its record for the manifest. KeyboardInterrupt if `progress` says stop."""
    settings, submodule, profile, path, key = task
    job = EngineJob(settings.checkpoint, submodule, profile, settings.dtype, settings.options, path, progress)
    if not progress("export", 0, 1):
        raise KeyboardInterrupt
    made = settings.builder.make(job)
    progress("export", 1, 1)
    config = settings.checkpoint.load().config  # loads no weights
    inputs, outputs = submodule_boundary(submodule, config, profile, DTYPES[settings.dtype])
    engine = EngineRecord(
        submodule=submodule,
        profile=str(profile),
        file=path.name,
        weights=[file.name for file in made.beside],
        inputs=tensor_records(inputs),
        outputs=tensor_records(outputs),
        build_key=key,
        build_seconds=0.0,  # the parent measures it, with the start of this process
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        build_flags=settings.builder.flags(settings.options),
        contents=made.contents,
    )
    return FinishedEngine(engine=engine, files={file.name: record_of(file) for file in (path, *made.beside)})


def build_key(settings: BuildSettings, submodule: str, profile: AnyProfile, model: dict[str, Any], weights: str) -> str:
    """Return the SHA-256 of everything that determines an engine. Equal keys mean equal engines."""
    determining = {
        "submodule": submodule,
        "profile": str(profile),
        "format": settings.format,
        "dtype": settings.dtype,
        "flags": settings.builder.flags(settings.options),
        # an ONNX graph does not depend on the machine
        "target": settings.target.model_dump() if settings.format != "onnxruntime" else None,
        "model": model,
        "weights": weights,
        "checkpoint": settings.checkpoint.label,  # graphs name it
        "kernel": function_digest(),
        "versions": versions(),
        "tool": __version__,
        "sources": _source_digest(),
    }
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine a graph."""
    return {package: version(package) for package in ("torch", "onnx", "onnxscript", "diffusers", "transformers")}


@functools.cache
def _source_digest() -> str:
    """Return the SHA-256 of the sources of model, exporter and kernels. A changed network is another engine."""
    import hero_export
    import hero_kernels
    import hero_rt.models
    import hero_rt.spec

    modules = (hero_rt.models, hero_rt.spec, hero_export, hero_kernels)
    roots = [Path(module.__file__ or "").parent for module in modules]
    digest = hashlib.sha256()
    for path in sorted(path for root in roots for path in root.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
