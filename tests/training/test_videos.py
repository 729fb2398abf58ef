"""Windows of frames from folders of videos."""

import logging
import shutil

import numpy as np
import pytest

from hero_rt.errors import UsageError
from hero_train.videos import VideoWindows, augment, read_window
from tests.clips import numbered_frames, read, write_clip


def numbers(window: np.ndarray) -> np.ndarray:
    """Which frames of `numbered_frames` these are."""
    return np.round((window.reshape(len(window), -1).mean(1) - 16) / 8).astype(int)


@pytest.mark.parametrize("key_frames_every", [4, 250], ids=["many key frames", "one key frame"])
def test_a_window_is_successive_frames_from_anywhere_in_the_video(tmp_path, key_frames_every):
    path = write_clip(tmp_path / "numbered.mp4", numbered_frames(24, 48, 64), key_frames_every=key_frames_every)
    starts = set()
    for seed in range(120):
        window = read_window(path, 4, np.random.default_rng(seed))
        first = numbers(window)[0]
        assert numbers(window).tolist() == list(range(first, first + 4))
        starts.add(first)
    assert starts == set(range(21))


def test_a_video_of_exactly_the_window_is_read_whole(tmp_path):
    path = write_clip(tmp_path / "short.mp4", numbered_frames(4, 48, 64))
    assert np.array_equal(read_window(path, 4, np.random.default_rng(0)), read(path))


def test_items_depend_on_seed_and_index_alone(videos):
    windows = VideoWindows([videos], 4, 32, seed=5, length=20)
    again = VideoWindows([videos], 4, 32, seed=5, length=20)
    forwards = [windows[i][0] for i in range(6)]
    backwards = [again[i][0] for i in reversed(range(6))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    other = VideoWindows([videos], 4, 32, seed=6, length=20)
    assert any(not np.array_equal(a, other[i][0]) for i, a in enumerate(forwards))
    assert {window.shape for window in forwards} == {(4, 32, 32, 3)}


def test_a_video_that_does_not_decode_is_skipped_with_a_warning_and_counted(videos, tmp_path, caplog):
    folder = tmp_path / "videos"
    shutil.copytree(videos, folder)
    (folder / "broken.mp4").write_bytes(b"not a video at all" * 100)
    write_clip(folder / "short.mp4", numbered_frames(2, 48, 64))
    windows = VideoWindows([folder], 4, 32, seed=0, length=40)
    with caplog.at_level(logging.WARNING):
        items = [windows[i] for i in range(40)]
    skipped = sum(count for _, count in items)
    assert skipped > 5
    assert len(caplog.messages) == skipped
    assert any("broken.mp4" in message for message in caplog.messages)
    assert any("short.mp4: it has only 2 frames" in message for message in caplog.messages)
    assert {window.shape for window, _ in items} == {(4, 32, 32, 3)}


def test_nothing_but_broken_videos_ends_the_run(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no")
    with pytest.raises(UsageError, match=r"50 videos in a row could not be read; the last was .*broken\.mp4"):
        VideoWindows([tmp_path], 4, 32, seed=0, length=1)[0]


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no video"):
        VideoWindows([tmp_path], 4, 32, seed=0, length=1)


def test_folders_have_equal_shares_whatever_they_hold(videos, tmp_path):
    write_clip(tmp_path / "white.mp4", np.full((8, 48, 64, 3), 235, np.uint8))
    windows = VideoWindows([videos, tmp_path], 4, 32, seed=0, length=200)
    white = sum(windows[i][0].min() > 230 for i in range(200))
    assert 70 < white < 130  # of 200; two thirds of all videos are in the other folder


@pytest.mark.parametrize("shape", [(48, 64), (200, 90), (32, 32)], ids=["wide", "tall", "exact"])
def test_a_crop_is_square_and_never_stretched(shape):
    height, width = shape
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)[None].repeat(3, axis=0)
    for seed in range(10):
        out = augment(ramp, 32, np.random.default_rng(seed)).astype(float)
        along_x, along_y = abs(out[0, 16, 24, 0] - out[0, 16, 8, 0]), out[0, 24, 16, 1] - out[0, 8, 16, 1]
        assert abs(along_x - along_y) <= 2
