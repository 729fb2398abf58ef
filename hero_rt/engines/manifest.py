"""Defines manifest.json, which describes an engine folder. The exporter writes it, the runtime checks it."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from hero_rt.atomic import write_atomically
from hero_rt.errors import EngineError, check_engine_folder
from hero_rt.spec.boundary import Specs, TensorSpec
from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import Profile, parse_profile

SCHEMA_VERSION = 3
MANIFEST_NAME = "manifest.json"
_UNSEALED = "0" * 64

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileRecord(_Strict):
    """A file of the folder: its size in bytes and SHA-256."""

    bytes: int
    sha256: str


class TensorRecord(_Strict):
    """One input or output: its shape, -1 where an axis is free, and torch dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.shape, getattr(torch, self.dtype))


class Target(_Strict):
    """The library and the GPU that an engine is built for."""

    library: str
    library_version: str
    cuda: str | None = None
    driver: str | None = None
    gpu: str | None = None
    compute_capabilities: list[str] = []  # "sm_89"; "sm_80+" is that and every later one
    version_compatible: bool = False  # runs on later versions of the library too


class EngineRecord(_Strict):
    """One engine: a submodule at a profile or at a range of canvases."""

    submodule: str
    profile: str
    file: str
    weights: list[str]  # files that `file` needs beside it: its weights, or the library of its plugin
    inputs: list[TensorRecord]
    outputs: list[TensorRecord]
    build_key: str  # hash of all that determines the engine
    build_seconds: float
    peak_memory_bytes: int
    build_flags: dict[str, Any] = {}
    contents: dict[str, Any] = {}  # what the build saw inside: nodes, layers, memory
    parity: dict[str, Any] | None = None  # filled by verification

    def takes(self, inputs: Specs, outputs: Specs) -> bool:
        """Return whether the engine has these tensors, by name, order, dtype and shape. -1 fits any size."""
        return all(
            [tensor.name for tensor in tensors] == list(specs)
            and all(tensor.spec.fits(spec) for tensor, spec in zip(tensors, specs.values(), strict=True))
            for tensors, specs in ((self.inputs, inputs), (self.outputs, outputs))
        )


class BuildSpec(_Strict):
    """The arguments of `hero-export build-engines`.

    Attributes:
        checkpoint: a folder, a bundled name, a Hub id, or "random" with preset and seed.
        preset: sizes of random weights.
        seed: seed of random weights.
        format: the engine format.
        dtype: "fp32" or "fp16".
        options: the builder's options that are not at their default, by name.
    """

    checkpoint: str
    preset: str | None = None
    seed: int = 0
    format: str
    dtype: Literal["fp32", "fp16"]
    options: dict[str, Any] = {}

    def command(self, profiles: Sequence[str], folder: Path) -> str:
        """Return the command line that builds `folder`."""
        words = ["hero-export", "build-engines", self.checkpoint]
        if self.preset is not None:
            words += ["--preset", self.preset, "--seed", str(self.seed)]
        words += ["--format", self.format, "--dtype", self.dtype]
        for profile in profiles:
            words += ["--profile", profile]
        for name, value in self.options.items():
            values = [] if value is True else value if isinstance(value, list) else [value]
            words += ["--" + name.replace("_", "-"), *map(str, values)]
        return shlex.join([*words, "--out", str(folder)])


class Manifest(_Strict):
    """The description of an engine folder."""

    schema_version: int
    tool_version: str
    build: BuildSpec
    model: dict[str, Any]  # HeroConfig
    kernel_digest: str
    target: Target
    engines: list[EngineRecord]
    files: dict[str, FileRecord]
    sha256: str = ""  # of this file, written last: a changed byte anywhere does not open

    @property
    def config(self) -> HeroConfig:
        return HeroConfig.from_dict(self.model)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.build.dtype]

    @property
    def profiles(self) -> list[str]:
        """The profiles of the denoising step. A clip can be outpainted at these."""
        return sorted(engine.profile for engine in self.engines if engine.submodule == "unet_step")

    def find(self, submodule: str, profile: Profile) -> EngineRecord | None:
        """Return the engine of `submodule` for `profile`: of this exact shape, else of a range that contains it."""
        wanted = profile.of(submodule)
        candidates = [engine for engine in self.engines if engine.submodule == submodule]
        exact = (engine for engine in candidates if engine.profile == str(wanted))
        around = (engine for engine in candidates if parse_profile(engine.profile).covers(wanted))
        return next(exact, None) or next(around, None)

    def rebuild_command(self, folder: Path, profile: Profile | None = None) -> str:
        """Return the command line that builds this folder again, with `profile` added if given."""
        return self.build.command(sorted({*self.profiles, *([str(profile)] if profile else [])}), folder)


def tensor_records(specs: Specs) -> list[TensorRecord]:
    return [
        TensorRecord(name=name, shape=spec.shape, dtype=str(spec.dtype).removeprefix("torch."))
        for name, spec in specs.items()
    ]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> FileRecord:
    return FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest atomically, after all other files. The folder of a killed build has none and does not open."""
    text = manifest.model_copy(update={"sha256": _UNSEALED}).model_dump_json(indent=2) + "\n"
    write_atomically(folder / MANIFEST_NAME, text.replace(_UNSEALED, _seal(text)).encode())


def _seal(text: str) -> str:
    """Return the SHA-256 of manifest.json with 64 zeros in place of the hash itself."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Parse and validate manifest.json. Other files are not checked. Raises EngineError."""
    path = folder / MANIFEST_NAME
    check_engine_folder(folder)
    if not path.is_file():
        raise EngineError(
            f"{folder} has no {MANIFEST_NAME}: not an engine folder, or its build did not finish; run it again"
        )
    data = path.read_bytes()
    try:
        text = data.decode()
        manifest = Manifest.model_validate_json(text)
    except (ValidationError, UnicodeDecodeError) as error:
        _check_schema(path, data)
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("file",), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise EngineError(f"{path} is not valid ({where}: {first['msg']}); rebuild the folder") from error
    if manifest.schema_version != SCHEMA_VERSION:
        _check_schema(path, data)
    if _seal(text.replace(manifest.sha256, _UNSEALED)) != manifest.sha256:
        raise EngineError(f"{path} is not as it was written: its SHA-256 differs; rebuild the folder")
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare size and SHA-256 of every file with the manifest. Raises EngineError, which has the rebuild command."""
    remedy = f"rebuild: {manifest.rebuild_command(folder)}"
    for engine in manifest.engines:
        if unlisted := {engine.file, *engine.weights} - manifest.files.keys():
            raise EngineError(f"{folder / MANIFEST_NAME} does not list {min(unlisted)}; {remedy}")
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise EngineError(f"{path} is missing; {remedy}")
        if (size := path.stat().st_size) != expected.bytes:
            raise EngineError(f"{path} has {size} bytes, {expected.bytes} were built; {remedy}")
        if (digest := sha256_of(path)) != expected.sha256:
            raise EngineError(f"{path} has SHA-256 {digest[:12]}…, {expected.sha256[:12]}… was built; {remedy}")


def _check_schema(path: Path, data: bytes) -> None:
    """Raise EngineError for the manifest of another schema version. Other content passes."""
    try:
        found = json.loads(data)
        schema = found["schema_version"]
    except (ValueError, TypeError, KeyError):
        return
    if schema == SCHEMA_VERSION:
        return
    remedy = "rebuild the folder with this version's hero-export build-engines"
    if schema == 2 and {"checkpoint", "format", "dtype", "options", "engines"} <= found.keys():
        # options: the text of that version's command line; one of them has another name now
        options = str(found["options"]).replace("--compute-capability ", "--compute-capabilities ")
        words = [str(found["checkpoint"]), f"--format {found['format']} --dtype {found['dtype']}"]
        words += sorted({f"--profile {e['profile']}" for e in found["engines"] if e["submodule"] == "unet_step"})
        remedy = f"rebuild: hero-export build-engines {' '.join([*words, options]).strip()} --out {path.parent}"
    raise EngineError(f"{path} has schema version {schema}, this hero-runtime reads {SCHEMA_VERSION}; {remedy}")
