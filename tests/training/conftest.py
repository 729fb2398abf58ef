"""A model small enough to train for a few steps in a test, and videos with known content."""

from dataclasses import replace
from pathlib import Path

import pytest

from hero_rt.models import HeroConfig, HeroModel
from tests.clips import CARPHONE, numbered_frames, read, write_clip

TINY = HeroConfig.from_preset("hero-tiny")
FRAMES, SIZE = 4, 32


@pytest.fixture(scope="session")
def small() -> HeroModel:
    """hero-tiny with windows of 4 frames and random weights: no layer is zero."""
    return HeroModel.random(replace(TINY, num_frames=FRAMES, flow_scale=3.0, sample_size=40))


@pytest.fixture(scope="session")
def checkpoint(small, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "checkpoint"
    small.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """Two readable videos: numbered greys, and a real one."""
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "numbered.mp4", numbered_frames(24, 48, 64))
    write_clip(folder / "real.mp4", read(CARPHONE, 12)[:, 24:120, 24:152])
    return folder
