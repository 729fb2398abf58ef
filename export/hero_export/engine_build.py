"""One engine: what is asked for, the key that determines it, and its build, which runs in a fresh process."""

import functools
import hashlib
import json
import resource
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
    """What a build is asked for, apart from the shapes."""

    checkpoint: Checkpoint
    builder: Builder
    dtype: str
    options: BuilderOptions

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, format: str = "onnxruntime", dtype: str | None = None, **options: Any
    ) -> "BuildSettings":
        """dtype: default: the format's. options: fields of its builder's options. Raises UsageError."""
        builder = find_builder(format)
        dtype = dtype or builder.default_dtype
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        return cls(checkpoint, builder, dtype, parse_options(builder.Options, options))

    def resolved(self) -> "BuildSettings":
        """With what was left open filled in. Raises UsageError or HeroError for what cannot be built here."""
        return replace(self, options=self.builder.resolve(self.options))

    @property
    def format(self) -> str:
        return self.builder.format

    @property
    def target(self) -> Target:
        return self.builder.target(self.options)

    @property
    def spec(self) -> BuildSpec:
        """As the manifest keeps it."""
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
    """An engine that is whole, and the files that it consists of."""

    engine: EngineRecord
    files: dict[str, FileRecord]

    def intact(self, folder: Path) -> bool:
        """Whether every file is still what was built."""
        return all(
            (folder / name).is_file() and record_of(folder / name) == record for name, record in self.files.items()
        )


def build_engine(
    settings: BuildSettings, submodule: str, profile: AnyProfile, path: Path, key: str, progress: Progress
) -> FinishedEngine:
    """Make one engine at `path`, in a folder of its own, with the record that the manifest keeps of it."""
    job = EngineJob(settings.checkpoint, submodule, profile, settings.dtype, settings.options, path, progress)
    made = settings.builder.make(job)
    config = settings.checkpoint.load().config  # sizes only: no part is made
    inputs, outputs = submodule_boundary(submodule, config, profile, DTYPES[settings.dtype])
    engine = EngineRecord(
        submodule=submodule,
        profile=str(profile),
        file=path.name,
        weights=[file.name for file in made.beside],
        inputs=tensor_records(inputs),
        outputs=tensor_records(outputs),
        build_key=key,
        build_seconds=round(made.seconds, 2),
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        build_flags=settings.builder.flags(settings.options),
        contents=made.contents,
    )
    return FinishedEngine(engine=engine, files={file.name: record_of(file) for file in (path, *made.beside)})


def build_key(settings: BuildSettings, submodule: str, profile: AnyProfile, model: dict[str, Any], weights: str) -> str:
    """SHA-256 of all that determines an engine: equal keys, equal engines."""
    determining = {
        "submodule": submodule,
        "profile": str(profile),
        "format": settings.format,
        "dtype": settings.dtype,
        "flags": settings.builder.flags(settings.options),
        # an ONNX graph is the same wherever it is traced
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
    """Of everything that shapes a graph."""
    return {package: version(package) for package in ("torch", "onnx", "onnxscript", "diffusers", "transformers")}


@functools.cache
def _source_digest() -> str:
    """SHA-256 of the model's, the exporter's and the kernels' sources: a changed network is another engine."""
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
