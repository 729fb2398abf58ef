"""The canvas filled from the clip itself: what a pan shows elsewhere comes back, and nothing is made up from noise."""

import numpy as np
import pytest
import torch

from hero_rt.models import HeroConfig
from hero_rt.spec.canvas import Canvas
from hero_rt.stages.fill import camera_motion, propagated
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import window_inputs
from tests.clips import moving_texture, small_clip


def pan(velocity: tuple[float, float], frames: int = 8, height: int = 96, width: int = 160) -> np.ndarray:
    """A window of 96 px on a texture that moves; wide enough that it does not wrap round within the clip."""
    return moving_texture(frames, height, width, velocity)


def filled(whole: np.ndarray, canvas: Canvas, finished: int = 0) -> tuple[np.ndarray, torch.Tensor]:
    """(uint8 [F, H, W, 3], bool known [F, H, W]) of a clip whose padding was hidden."""
    rows = slice(canvas.top, canvas.top + canvas.source_height)
    columns = slice(canvas.left, canvas.left + canvas.source_width)
    source = np.ascontiguousarray(whole[:, rows, columns])
    flow = optical_flow(source)
    inputs = window_inputs(canvas, source, flow, whole[:finished] if finished else None, "propagated")
    pixels = ((inputs.frames + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels, inputs.flow_mask[:, 2] == 0


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


@pytest.mark.parametrize("velocity", [(4, 0), (-3, 0), (2.5, 0.5)], ids=["right", "left", "fractions"])
def test_a_pan_fills_what_another_frame_shows(velocity):
    whole = pan(velocity)
    canvas = Canvas(112, 96, 0, 24, 0, 24)
    pixels, _ = filled(whole, canvas)
    # the scene moves right: what the last frame hides on the right, the first frames showed further left
    last = slice(canvas.left + canvas.source_width, canvas.left + canvas.source_width + 12)
    side = last if velocity[0] > 0 else slice(canvas.left - 12, canvas.left)
    truth = whole[-1, 8:-8, side]
    grey = np.full_like(truth, 127)
    assert psnr(pixels[-1, 8:-8, side], truth) > 28
    assert psnr(grey, truth) < 18


def test_known_pixels_and_finished_frames_come_back_unchanged():
    whole = pan((4, 0))
    canvas = Canvas(112, 96, 0, 24, 0, 24)
    pixels, known = filled(whole, canvas, finished=2)
    assert known[:2].all()
    assert not known[2:].all()
    assert np.array_equal(pixels[known.numpy()], whole[known.numpy()])


def test_finished_frames_fill_what_the_sources_never_show():
    """A still scene: only the two whole frames know its sides; a moving one takes them along."""
    whole = pan((3, 0))
    canvas = Canvas(112, 96, 0, 24, 0, 24)
    left = slice(8, 24)  # enters the frame from the left, so no later source has seen it
    with_finished, _ = filled(whole, canvas, finished=2)
    without, _ = filled(whole, canvas)
    truth = whole[3, 8:-8, left]
    assert psnr(with_finished[3, 8:-8, left], truth) > psnr(without[3, 8:-8, left], truth) + 6


def test_where_no_motion_explains_the_frames_the_nearest_pixel_goes_on():
    noise = np.random.default_rng(0).integers(0, 256, (4, 96, 128, 3), dtype=np.uint8)
    canvas = Canvas(96, 96, 0, 16, 0, 16)
    pixels, _ = filled(noise, canvas)
    assert np.array_equal(pixels[:, :, :16], np.broadcast_to(noise[:, :, 16:17], (4, 96, 16, 3)))
    assert np.array_equal(pixels[:, :, -16:], np.broadcast_to(noise[:, :, -17:-16], (4, 96, 16, 3)))


def test_a_still_camera_invents_no_motion():
    """Carphone: a talking head before a car's window; no side is shown by any other frame."""
    whole = small_clip(16, 128, 96)
    canvas = Canvas(96, 96, 0, 16, 0, 16)
    pixels, _ = filled(whole, canvas)
    edge = np.pad(whole[:, :, 16:-16], ((0, 0), (0, 0), (16, 16), (0, 0)), mode="edge")
    assert psnr(pixels, whole) > psnr(edge, whole) - 0.3


def test_camera_motion_of_a_known_similarity():
    angle, zoom, shift = 0.02, 1.03, np.array([2.0, -1.0])
    matrix = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    y, x = np.mgrid[:64, :80]
    points = np.stack([x, y]).astype(float)
    flow = np.einsum("ij,jhw->ihw", matrix, points) + shift[:, None, None] - points
    flow[:, 20:30, 20:30] += 9  # something that moves on its own
    found = camera_motion(flow.astype(np.float32))
    np.testing.assert_allclose(found[:2, :2], matrix, atol=1e-4)
    np.testing.assert_allclose(found[:2, 2], shift, atol=2e-3)


def test_one_frame_and_a_frame_known_whole():
    frame = pan((0, 0), frames=1)
    canvas = Canvas(112, 96, 0, 24, 0, 24)
    pixels, _ = filled(frame, canvas)
    assert np.array_equal(pixels[0, :, :24], np.broadcast_to(frame[0, :, 24:25], (96, 24, 3)))


def test_paper_checkpoints_keep_their_grey_canvas():
    assert HeroConfig.from_preset("hero-sd15").canvas_fill == "grey"
    whole = pan((4, 0))
    canvas = Canvas(112, 96, 0, 24, 0, 24)
    source = np.ascontiguousarray(whole[:, :, 24:-24])
    inputs = window_inputs(canvas, source, optical_flow(source), None, "grey")
    assert not inputs.frames[:, :, :, :24].any()
    torch.testing.assert_close(
        propagated(inputs.frames, torch.ones(8, 96, 160, dtype=torch.bool), optical_flow(source), canvas), inputs.frames
    )
