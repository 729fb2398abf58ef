"""Clips from photographs: the same for the same seed, real motion, and a folder that can be gone on with."""

import numpy as np
import pytest
from PIL import Image

from hero_rt.errors import UsageError
from hero_rt.stages.flow import optical_flow
from hero_train.cli import main
from hero_train.synthesize import _near_layer, cutouts, photographs, render
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


def test_cut_outs_keep_their_transparency(photos, tmp_path):
    """A green square with a clear border: the clips with one hold its green, and none of the border's magenta."""
    pixels = np.zeros((80, 80, 4), np.uint8)
    pixels[...] = (255, 0, 255, 0)
    pixels[20:60, 20:60] = (0, 255, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    Image.new("RGB", (80, 80)).save(tmp_path / "opaque.png")
    things = cutouts([tmp_path])
    assert [path.name for path in things] == ["square.png"]
    Image.new("RGB", (400, 400), (128, 128, 128)).save(tmp_path / "grey.jpg")
    clips = [render([tmp_path / "grey.jpg"], 64, 4, (0, i), things).astype(int) for i in range(30)]
    green = [(clip[..., 1] - clip[..., [0, 2]].max(-1)).max() for clip in clips]
    magenta = [(clip[..., [0, 2]].min(-1) - clip[..., 1]).max() for clip in clips]
    assert sum(value > 120 for value in green) >= 4
    assert max(magenta) < 40


def test_light_changes_slowly_and_grain_quickly(tmp_path):
    """On a grey wall: some clips change their mean over time, and others change from frame to frame alone."""
    Image.new("RGB", (400, 400), (128, 128, 128)).save(tmp_path / "grey.png")
    clips = [render([tmp_path / "grey.png"], 64, 12, (1, i)).astype(float) for i in range(60)]
    drift = [np.ptp(clip.mean((1, 2, 3))) for clip in clips]
    busy = [np.abs(np.diff(clip, axis=0)).mean() for clip in clips]
    assert 4 <= sum(value > 3 for value in drift) <= 25
    assert 8 <= sum(value > 0.7 for value in busy) <= 30
    assert sum(value < 0.05 for value in busy) >= 20


def test_a_near_layer_moves_farther_than_what_lies_behind(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 256, (60, 60, 3), np.uint8)).resize((900, 900)).save(tmp_path / f"{name}.png")
    photo = np.asarray(Image.open(tmp_path / "a.png"))
    moved = np.stack([3.0 * np.arange(4), np.zeros(4)], 1)
    faster = 0
    for seed in range(8):
        clip = np.zeros((4, 96, 96, 3), np.uint8)
        _near_layer(clip, photo, moved, np.random.default_rng(seed))
        covered = clip.any(-1).all(0)
        assert 0.05 < covered.mean() < 0.6
        flow = optical_flow(clip)[0, :, covered]
        faster += 3 < abs(np.median(flow[:, 0])) < 9
    assert faster >= 6


def test_command_goes_on_where_it_was_stopped(photos, tmp_path):
    out = tmp_path / "clips"
    options = ["--out", str(out), "--size", "64", "--frames", "4"]
    assert run(main, "synthesize", str(photos), *options, "--count", "2") == 0
    first = (out / "00000.mp4").stat().st_mtime_ns
    assert run(main, "synthesize", str(photos), *options, "--count", "3") == 0
    assert sorted(path.name for path in out.iterdir()) == ["00000.mp4", "00001.mp4", "00002.mp4"]
    assert (out / "00000.mp4").stat().st_mtime_ns == first
    assert read(out / "00002.mp4").shape == (4, 64, 64, 3)
