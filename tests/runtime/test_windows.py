"""Window planning: every frame covered, weights that sum to one, streams in flat memory."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hero_rt.errors import UsageError
from hero_rt.windows import (
    Window,
    fuse,
    fusion_weights,
    joint_windows,
    pad_to_window,
)

plans = st.integers(2, 24).flatmap(
    lambda size: st.tuples(st.integers(size, size + 90), st.just(size), st.integers(0, size - 1))
)


def test_windows_of_16_with_overlap_4_over_36_frames():
    assert joint_windows(36, 16, 4) == [Window(0, 16), Window(12, 28), Window(20, 36)]


@given(plans)
def test_windows_cover_every_frame_with_one_size_and_at_least_the_overlap(plan):
    num_frames, size, overlap = plan
    windows = joint_windows(num_frames, size, overlap)
    assert windows[0].start == 0
    assert windows[-1].stop == num_frames
    assert all(window.stop - window.start == size for window in windows)
    for before, after in pairwise(windows):
        assert before.start < after.start <= before.stop - overlap


@given(plans)
def test_fusion_weights_are_positive_and_sum_to_one_on_every_frame(plan):
    num_frames, size, overlap = plan
    windows = joint_windows(num_frames, size, overlap)
    total = torch.zeros(num_frames)
    for window, weight in zip(windows, fusion_weights(windows), strict=True):
        assert (weight > 0).all()
        total[window.start : window.stop] += weight
    torch.testing.assert_close(total, torch.ones(num_frames), atol=1e-6, rtol=0)


def test_two_windows_cross_fade_linearly():
    first, second = fusion_weights(joint_windows(28, 16, 4))
    torch.testing.assert_close(first, torch.cat([torch.ones(12), torch.tensor([0.8, 0.6, 0.4, 0.2])]))
    torch.testing.assert_close(second, first.flip(0))


@settings(max_examples=40)
@given(plans, st.integers(0, 5))
def test_windows_of_one_clip_fuse_back_to_it(plan, seed):
    num_frames, size, overlap = plan
    windows = joint_windows(num_frames, size, overlap)
    clip = torch.randn(num_frames, 4, 2, 3, generator=torch.Generator().manual_seed(seed))
    fused = fuse([clip[w.start : w.stop] for w in windows], windows, fusion_weights(windows))
    torch.testing.assert_close(fused, clip, atol=1e-5, rtol=0)


def test_disagreeing_windows_fuse_without_a_jump_at_any_window_edge():
    windows = joint_windows(40, 16, 4)
    predictions = [torch.full((16, 1), float(i)) for i in range(len(windows))]
    fused = fuse(predictions, windows, fusion_weights(windows))[:, 0]
    assert fused[0] == 0
    assert fused[-1] == len(windows) - 1
    assert (fused.diff() >= -1e-6).all()
    assert fused.diff().max() <= 0.2 + 1e-6  # one window's step of 1, spread over 5 frame intervals


def test_a_short_clip_repeats_its_last_frame():
    frames = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert pad_to_window(frames, 5)[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2]
    assert pad_to_window(frames, 2) is frames


@pytest.mark.parametrize("shared", [-1, 16, 20])
def test_more_shared_frames_than_a_window_holds_are_refused(shared):
    with pytest.raises(UsageError, match=f"{shared} frames"):
        joint_windows(64, 16, shared)


def test_a_clip_shorter_than_a_window_has_no_joint_plan():
    with pytest.raises(UsageError, match="7 frames are fewer than a window of 16"):
        joint_windows(7)
