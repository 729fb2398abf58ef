"""Shared by all tests: one thread a worker, the small model with random weights, and its engines, built once."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from hero_rt.models import HeroModel
from hero_rt.spec.profile import Profile

torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny() -> HeroModel:
    """hero-tiny, random FP32 weights, zero-initialised layers and alphas drawn too."""
    return HeroModel.random("hero-tiny", seed=0)


@pytest.fixture(scope="session")
def engine_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """hero-tiny's ONNX Runtime engines at 128x64x16 with and without guidance, the weights of `tiny`.

    Built once for all parallel workers. Read-only by agreement: tests that break a folder copy it.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent
    folder = shared / "engines"
    with FileLock(shared / "engines.lock"):
        if not (folder / "manifest.json").exists():
            from hero_export.build import build_engines
            from hero_export.checkpoint import Checkpoint
            from hero_export.engine_build import BuildSettings

            profiles = [Profile(128, 64, 16), Profile(128, 64, 16, guided=True)]
            build_engines(BuildSettings.of(Checkpoint("random", "hero-tiny")), folder, profiles, jobs=2)
    return folder
