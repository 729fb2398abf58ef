"""Defines a builder of one engine format. This module loads no library: commands make their options from it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from hero_rt.errors import EngineError, UsageError
from hero_rt.spec.profile import AnyProfile, ProfileRange

if TYPE_CHECKING:
    from hero_export.checkpoint import Checkpoint
    from hero_export.onnx import GraphForm, OnnxExport
    from hero_rt.engines.manifest import EngineRecord, Target
    from hero_rt.models.hero import HeroModel

Progress = Callable[[str, int, int], bool]  # phase, steps done, steps in all; False stops the build


class BuilderOptions(BaseModel):
    """The options of one format, except checkpoint, dtype and profiles. A field is a command-line option.

    `panel` is the heading of these options in `--help`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    panel: ClassVar[str | None] = None


class FormatStatus(BaseModel):
    """Says on which devices engines of a format run here, whether they can be built, and how to add what is missing."""

    format: str
    runs_on: list[str]
    builds: bool
    missing: str | None = None
    targets: list[str] = []  # GPUs that it builds for with no GPU here


@dataclass(frozen=True)
class EngineJob:
    """Everything that the build of one engine needs. `path` is the file to write, in a folder of its own."""

    checkpoint: "Checkpoint"
    submodule: str
    profile: AnyProfile
    dtype: str
    options: Any
    path: Path
    progress: Progress

    def export(self, path: Path, form: "GraphForm") -> "OnnxExport":
        """Write the submodule as an ONNX file."""
        from hero_export.onnx import export_onnx

        return export_onnx(self.model(), self.submodule, self.profile, path, form, self.checkpoint.label)

    def model(self, device: str = "cpu") -> "HeroModel":
        from hero_rt.engines.manifest import DTYPES

        return self.checkpoint.load(DTYPES[self.dtype], device)


@dataclass(frozen=True)
class Made:
    """The result of a build.

    Attributes:
        contents: figures for the manifest: nodes, layers, memory.
        beside: further files that the engine needs.
    """

    contents: dict[str, Any]
    beside: tuple[Path, ...] = ()


class Builder(ABC):
    """Builds engines of one format. A builder is pickled to the process of the build.

    Attributes:
        format: its name, which is also the name of its backend.
        suffix: of an engine's file.
        Options: the model of its options.
        default_dtype: "fp32" or "fp16".
        takes_ranges: whether one engine serves a range of canvases.
    """

    format: str
    suffix: str
    Options: ClassVar[type[BuilderOptions]] = BuilderOptions
    default_dtype = "fp32"
    takes_ranges = True

    def backend(self) -> Any:
        """Return the backend, which runs engines of this format."""
        from hero_rt.engines.backend import backend

        return backend(self.format)

    def resolve(self, options: Any) -> Any:
        """Fill in options that depend on this machine. Raises UsageError or HeroError if it cannot build them."""
        return options

    def notes(self, options: Any) -> list[str]:
        """Return lines that explain resolved options to the user."""
        return []

    def check_profile(self, profile: AnyProfile) -> None:
        """Raise UsageError for a range of canvases if the format takes none."""
        if isinstance(profile, ProfileRange) and not self.takes_ranges:
            raise UsageError(
                f"profile {profile}: a package of format {self.format} has one shape; name each size as a profile"
            )

    def target(self, options: Any) -> "Target":
        """Return the library and the device that engines are built for. Raises EngineError without the library."""
        return self.backend().this_machine(self.backend().default_device())

    def flags(self, options: Any) -> dict[str, Any]:
        """Return the options that determine an engine."""
        return options.model_dump(mode="json")

    def environment(self) -> AbstractContextManager[None]:
        """Return a context that is open while build processes start."""
        return nullcontext()

    @abstractmethod
    def make(self, job: EngineJob) -> Made:
        """Build one engine at `job.path`."""

    def inspect(self, path: Path, contents: dict[str, Any]) -> tuple[dict[str, int], list[str]]:
        """Return the layers of an engine, by name or type with their count, and names that may contain attention."""
        return contents.get("operators", {}), list(contents.get("operators", {}))

    def layer_listing(self, path: Path, engine: "EngineRecord", why_not_here: str | None) -> str:
        """Return every layer as text. `why_not_here` is None where the engine runs. Raises HeroError."""
        layers, _ = self.inspect(path, engine.contents)
        return "\n".join(f"    {count:5d} {name}" for name, count in layers.items())

    def status(self) -> FormatStatus:
        """Return where this format runs and whether it can be built. By default a library that runs it builds it."""
        import torch

        try:
            device = self.backend().default_device()
            self.backend().this_machine(device)
        except EngineError as error:
            return FormatStatus(format=self.format, runs_on=[], builds=False, missing=str(error))
        missing = None
        if device.type == "cpu" and torch.cuda.is_available():
            missing = "the GPU is not used: pip install '.[gpu]'"
        runs_on = sorted({"cpu", device.type})
        return FormatStatus(format=self.format, runs_on=runs_on, builds=missing is None, missing=missing)


def graph_contents(graph: "OnnxExport") -> dict[str, Any]:
    """Return the figures of an exported graph that the manifest records."""
    return {name: getattr(graph, name) for name in ("nodes", "hero_nodes", "operators", "weights_by_type")}
