"""Shared by all tests: one thread a worker (tests run in parallel), and the small model with random weights."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest
import torch

from hero_rt.models import HeroModel

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> HeroModel:
    """hero-tiny, random FP32 weights, zero-initialised layers and alphas drawn too."""
    return HeroModel.random("hero-tiny", seed=0)
