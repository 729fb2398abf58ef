"""Clips from photographs: the same for the same seed, real motion, and a folder that can be gone on with."""

import numpy as np
import pytest
from PIL import Image

from hero_rt.errors import UsageError
from hero_rt.stages.flow import optical_flow
from hero_rt.training.cli import main
from hero_rt.training.synthesize import photographs, render
from tests.clips import BIG_BUCK_BUNNY, read
from tests.test_commands import run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(read(BIG_BUCK_BUNNY, 1)[0]).save(folder / "meadow.png")
    Image.new("RGB", (64, 64)).save(folder / "icon.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not an image")
    return folder


def test_only_photographs_of_a_size_are_taken(photos, tmp_path):
    assert [path.name for path in photographs([photos])] == ["meadow.png"]
    with pytest.raises(UsageError, match="no photograph of 300 px or more"):
        photographs([tmp_path])


def test_clips_repeat_by_seed_and_move(photos):
    found = photographs([photos])
    clips = [render(found, 64, 8, (0, i)) for i in range(24)]
    assert all(np.array_equal(clip, render(found, 64, 8, (0, i))) for i, clip in enumerate(clips[:3]))
    assert {clip.shape for clip in clips} == {(8, 64, 64, 3)}
    speeds = [np.abs(np.median(optical_flow(clip), axis=(0, 2, 3))).max() for clip in clips]
    assert sum(speed > 1 for speed in speeds) >= 8
    assert sum(speed < 0.5 for speed in speeds) >= 2


def test_command_goes_on_where_it_was_stopped(photos, tmp_path):
    out = tmp_path / "clips"
    options = ["--out", str(out), "--size", "64", "--frames", "4"]
    assert run(main, "synthesize", str(photos), *options, "--count", "2") == 0
    first = (out / "00000.mp4").stat().st_mtime_ns
    assert run(main, "synthesize", str(photos), *options, "--count", "3") == 0
    assert sorted(path.name for path in out.iterdir()) == ["00000.mp4", "00001.mp4", "00002.mp4"]
    assert (out / "00000.mp4").stat().st_mtime_ns == first
    assert read(out / "00002.mp4").shape == (4, 64, 64, 3)
