"""Optical flow against known motion, and its form as the flow encoder reads it."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from hero_rt.errors import UsageError
from hero_rt.spec.canvas import Canvas
from hero_rt.stages.flow import _raft_model, flow_mask, optical_flow
from hero_rt.stages.place import pixel_mask
from tests.clips import moving_texture


@pytest.mark.parametrize(
    "velocity",
    [
        pytest.param((3.0, 0.0), id="right-3"),
        pytest.param((-2.0, 1.0), id="left-2-down-1"),
        pytest.param((0.5, -1.25), id="half-a-pixel"),
        pytest.param((0.0, 0.0), id="still"),
    ],
)
def test_flow_of_a_translation_is_that_translation(velocity):
    flow = optical_flow(moving_texture(3, 72, 96, velocity))
    assert flow.shape == (3, 2, 72, 96)
    assert flow.dtype == np.float32
    inner = flow[:, :, 12:-12, 12:-12]  # what leaves the frame cannot be followed
    error = np.hypot(inner[:, 0] - velocity[0], inner[:, 1] - velocity[1])
    assert error.mean() < 0.15
    np.testing.assert_array_equal(flow[2], flow[1])


def test_a_single_frame_has_no_flow():
    assert not optical_flow(moving_texture(1, 32, 32, (1, 0))).any()


def test_frames_too_small_for_dis_are_refused_before_opencv_crashes():
    with pytest.raises(UsageError, match="200x12 px are too small"):
        optical_flow(np.zeros((2, 12, 200, 3), np.uint8))


@pytest.mark.parametrize("frames", [np.zeros((2, 32, 32, 3), np.float32), np.zeros((2, 32, 32), np.uint8)])
def test_frames_of_another_kind_are_refused(frames):
    with pytest.raises(UsageError, match="expected uint8"):
        optical_flow(frames)


def test_flow_is_divided_by_the_canvas_and_zero_where_unknown():
    canvas = Canvas(20, 12, 3, 5, 1, 7)  # 32x16
    flow = np.random.default_rng(0).normal(size=(2, 2, 12, 20)).astype(np.float32)
    encoded = flow_mask(flow, canvas)
    assert encoded.shape == (2, 3, 16, 32)
    np.testing.assert_allclose(encoded[:, 0, 3:15, 7:27], flow[:, 0] / 32, rtol=1e-6)
    np.testing.assert_allclose(encoded[:, 1, 3:15, 7:27], flow[:, 1] / 16, rtol=1e-6)
    unknown = pixel_mask(canvas)[0] == 1
    assert not encoded[:, :2, unknown].any()
    assert torch.equal(encoded[:, 2], pixel_mask(canvas).expand(2, -1, -1))


def test_flow_scale_is_the_pixels_that_become_one_on_any_canvas():
    flow = np.random.default_rng(0).normal(size=(2, 2, 12, 20)).astype(np.float32)
    for padding in ((3, 5, 1, 7), (0, 44, 4, 0)):
        canvas = Canvas(20, 12, *padding)
        encoded = flow_mask(flow, canvas, flow_scale=4.0)
        top, left = padding[0], padding[3]
        np.testing.assert_allclose(encoded[:, :2, top : top + 12, left : left + 20], flow / 4, rtol=1e-6)
        assert torch.equal(encoded[:, 2], flow_mask(flow, canvas)[:, 2])


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in whose `raft_large` is set by the test: the real one is neither a dependency nor without weights."""
    _raft_model.cache_clear()
    module = ModuleType("torchvision.models.optical_flow")
    module.Raft_Large_Weights = type("Weights", (), {"DEFAULT": "default"})
    for name in ("torchvision", "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", module)
    yield module
    _raft_model.cache_clear()


def test_raft_without_torchvision_names_the_remedy(monkeypatch):
    _raft_model.cache_clear()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match="pip install torchvision"):
        optical_flow(np.zeros((2, 32, 32, 3), np.uint8), method="raft")


def test_raft_weights_that_cannot_be_fetched_are_one_clear_line(torchvision):
    def offline(weights):
        raise OSError("no route to host")

    torchvision.raft_large = offline
    with pytest.raises(UsageError, match="weights cannot be loaded: no route to host"):
        optical_flow(np.zeros((2, 32, 32, 3), np.uint8), method="raft")


def test_raft_sees_pairs_in_its_range_and_size_and_its_last_iterate_is_cropped_back(torchvision):
    pairs = []

    class Recorder(torch.nn.Module):
        def forward(self, first, second):
            pairs.append((first, second))
            y, x = torch.meshgrid(*map(torch.arange, first.shape[-2:]), indexing="ij")
            return [torch.zeros(1, 2, *first.shape[-2:]), torch.stack([x, y])[None].float()]

    torchvision.raft_large = lambda weights: Recorder()
    frames = moving_texture(3, 140, 100, (1, 0))
    flow = optical_flow(frames, method="raft")
    for t, (first, second) in enumerate(pairs):
        assert first.shape == (1, 3, 144, 128)
        for image, frame in ((first, frames[t]), (second, frames[t + 1])):
            np.testing.assert_allclose(image[0, :, :140, :100].permute(1, 2, 0), frame / 127.5 - 1, atol=1e-6)
    assert len(pairs) == 2
    y, x = np.mgrid[:140, :100]
    np.testing.assert_array_equal(flow, np.broadcast_to(np.stack([x, y]), (3, 2, 140, 100)))
