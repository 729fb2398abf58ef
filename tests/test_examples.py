"""Every script of examples/ runs as its first line says, on a real clip, and leaves what it promises."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import read, small_clip, write_clip

EXAMPLES = Path(__file__).parents[1] / "examples"
FRAMES = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", small_clip(FRAMES))


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        pytest.param("outpaint_file.py", (FRAMES, 64, 114, 3), id="outpaint_file"),
        pytest.param("stream_long_video.py", (FRAMES, 64, 144, 3), id="stream_long_video"),
        pytest.param("live_session.py", (FRAMES, 64, 144, 3), id="live_session"),
    ],
)
def test_a_video_is_widened_around_the_source(clip, tmp_path, name, shape):
    run(name, clip, tmp_path / "out.mp4")
    frames = read(tmp_path / "out.mp4")
    assert frames.shape == shape
    left = (shape[2] - 80) // 2
    assert np.abs(frames[:, :, left : left + 80].astype(int) - read(clip)).mean() < 4


@pytest.mark.slow  # builds engines of hero-tiny
def test_threads_share_engines_that_are_built_once(clip, tmp_path):
    assert run("engines_for_threads.py", clip, tmp_path).count("wrote") == 2
    built = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "engines").glob("*.onnx")}
    assert len(built) == 6
    seeds = [read(tmp_path / f"seed{seed}.mp4") for seed in range(2)]
    assert seeds[0].shape == seeds[1].shape == (16, 64, 128, 3)
    assert not np.array_equal(*seeds)


def test_images_come_back_wider(tmp_path):
    source = small_clip(16)
    (tmp_path / "in").mkdir()
    for number, frame in enumerate(source):
        Image.fromarray(frame).save(tmp_path / "in" / f"{number:03}.png")
    run("frames_in_memory.py", tmp_path / "in", tmp_path / "out")
    images = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").iterdir())])
    left = (images.shape[2] - 80) // 2
    assert np.array_equal(images[:, :, left : left + 80], source)


def test_every_example_is_run_here():
    text = Path(__file__).read_text()
    assert all(path.name in text for path in EXAMPLES.glob("*.py"))
