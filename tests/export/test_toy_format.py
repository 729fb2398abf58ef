"""A further engine format: a builder, a backend and a line in each registry are all that it takes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field

import hero_export.builders
import hero_rt.engines.backend
from hero_export.build import build_engines
from hero_export.builders import Builder, BuilderOptions, EngineJob, Made
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_export.inspect import inspect_folder
from hero_rt import Outpainter
from hero_rt.engines import read_manifest
from hero_rt.engines.engine import ModuleEngine
from hero_rt.engines.manifest import Target
from hero_rt.spec.boundary import Specs
from hero_rt.spec.profile import Profile
from tests.clips import small_clip

THIS = "tests.export.test_toy_format"


class ToyOptions(BuilderOptions):
    level: float = Field(0.0, ge=-1, le=1, description="What every output is filled with.")


class ToyBuilder(Builder):
    format = "toy"
    suffix = ".toy"
    Options = ToyOptions

    def make(self, job: EngineJob) -> Made:
        job.path.write_text(json.dumps({"level": job.options.level}))
        return Made({"nodes": 1, "operators": {"Fill": 1}})


BUILDER = ToyBuilder()


def default_device() -> torch.device:
    return torch.device("cpu")


def this_machine(device: torch.device) -> Target:
    return Target(library="toy", library_version="1")


def mismatch(built: Target, here: Target) -> str | None:
    return None


def open_engine(path: Path, inputs: Specs, outputs: Specs, workspace: Any, beside: Sequence[Path] = ()) -> ModuleEngine:
    level = json.loads(path.read_text())["level"]

    def forward(*_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.full(spec.shape, level, dtype=spec.dtype) for spec in outputs.values())

    return ModuleEngine(path.name, forward, inputs, outputs)


def test_a_format_is_a_builder_a_backend_and_two_lines(monkeypatch, tmp_path):
    monkeypatch.setitem(hero_export.builders.BUILDERS, "toy", f"{THIS}:BUILDER")
    monkeypatch.setitem(hero_rt.engines.backend.BACKENDS, "toy", THIS)
    folder = tmp_path / "engines"
    settings = BuildSettings.of(Checkpoint("random", "hero-tiny"), "toy", level=0.5)
    build_engines(settings, folder, [Profile(128, 64, 16)])
    assert read_manifest(folder).build.options == {"level": 0.5}
    assert all(engine.build_seconds > 0.2 for engine in read_manifest(folder).engines)  # a process starts for each
    assert "--format toy --dtype fp32 --profile 128x64x16 --level 0.5" in read_manifest(folder).rebuild_command(folder)
    assert inspect_folder(folder).engines[0].layers == {"Fill": 1}
    kept = []
    build_engines(settings, folder, [Profile(128, 64, 16)], lambda done, reused: kept.append(reused))
    assert kept == [True] * 6
    with Outpainter.from_engines(folder) as outpainter:
        outpainter.set_progress_bar_config(disable=True)
        clip = small_clip(16)
        frames = outpainter(clip, pad=(0, 24, 0, 24), num_inference_steps=1, feather=0).frames
    assert np.array_equal(frames[:, :, 24:-24], clip)
    assert set(frames[:, :, :24].ravel()) == {191}  # (0.5 + 1) * 127.5, rounded


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(
        hero_rt.errors.UsageError, match="'toy' is not one of onnxruntime, tensorrt, tensorrt-rtx, aoti"
    ):
        BuildSettings.of(Checkpoint("random", "hero-tiny"), "toy")
