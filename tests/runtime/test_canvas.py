"""Canvas geometry, masks, and the composite that returns every source pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hero_rt.errors import UsageError
from hero_rt.spec.canvas import ANCHORS, TASKS, Canvas
from hero_rt.stages.composite import composite
from hero_rt.stages.place import latent_mask, pixel_mask, place_finished, place_source

sides = st.tuples(*[st.integers(0, 40)] * 4).filter(any)
sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(size=sizes, padding=sides)
def test_padding_adds_up_and_the_model_size_is_the_next_multiple_of_8(size, padding):
    width, height = size
    top, right, bottom, left = padding
    canvas = Canvas(width, height, *padding)
    assert (canvas.width, canvas.height) == (left + width + right, top + height + bottom)
    for model, target in ((canvas.model_width, canvas.width), (canvas.model_height, canvas.height)):
        assert model % 8 == 0
        assert 0 <= model - target < 8


@pytest.mark.parametrize(
    ("task", "ratio", "expected"),
    [
        pytest.param("OPV", 0.25, (0, 32, 0, 32), id="OPV-0.25"),
        pytest.param("OPH", 0.25, (32, 0, 32, 0), id="OPH-0.25"),
        pytest.param("OPC", 0.25, (32, 32, 32, 32), id="OPC-0.25-per-axis"),
        pytest.param("OPV", 0.5, (0, 96, 0, 96), id="OPV-0.5"),
    ],
)
def test_a_task_pads_the_sides_that_its_ratio_says(task, ratio, expected):
    canvas = Canvas.from_task(192, 192, task, ratio)
    assert (canvas.top, canvas.right, canvas.bottom, canvas.left) == expected


@given(size=sizes, task=st.sampled_from(sorted(TASKS)), ratio=st.floats(0.34, 0.9))
def test_a_ratio_is_the_generated_fraction_of_the_target_to_the_pixel_and_evenly_split(size, task, ratio):
    width, height = (2 + extent for extent in size)  # at 0.34, two pixels are the least that get a third
    canvas = Canvas.from_task(width, height, task, ratio)
    for source, target, near, far, grown in (
        (width, canvas.width, canvas.left, canvas.right, task != "OPH"),
        (height, canvas.height, canvas.top, canvas.bottom, task != "OPV"),
    ):
        # target · (1 - ratio) is the source, but for rounding the target to a pixel
        assert abs(target * (1 - ratio) - source) <= 0.5 if grown else target == source
        assert far - near in (0, 1)


@pytest.mark.parametrize(
    ("anchor", "left", "top"),
    [
        ("center", 10, 5),
        ("top", 10, 0),
        ("bottom", 10, 11),
        ("left", 0, 5),
        ("right", 21, 5),
        ("top-left", 0, 0),
        ("top-right", 21, 0),
        ("bottom-left", 0, 11),
        ("bottom-right", 21, 11),
    ],
)
def test_an_anchor_places_the_source_in_the_target(anchor, left, top):
    canvas = Canvas.from_size(40, 30, 61, 41, anchor)
    assert (canvas.left, canvas.top) == (left, top)
    assert (canvas.width, canvas.height) == (61, 41)
    assert anchor in ANCHORS


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        pytest.param(lambda: Canvas(8, 8, 0, -3, 0, 0), "right is -3", id="negative-padding"),
        pytest.param(lambda: Canvas(8, 8, 0, 0, 0, 0), "nothing to generate", id="no-padding"),
        pytest.param(lambda: Canvas.from_size(8, 8, 8, 8), "nothing to generate", id="target-equals-source"),
        pytest.param(lambda: Canvas.from_size(64, 48, 128, 40), "128x40 is smaller", id="target-smaller"),
        pytest.param(lambda: Canvas.from_size(8, 8, 16, 16, "middle"), "'middle'", id="unknown-anchor"),
        pytest.param(lambda: Canvas.from_task(8, 8, "OPX", 0.5), "'OPX'", id="unknown-task"),
        pytest.param(lambda: Canvas.from_task(8, 8, "OPV", 1.0), "ratio 1.0", id="ratio-1"),
        pytest.param(lambda: Canvas.from_task(8, 8, "OPV", -0.1), "ratio -0.1", id="ratio-negative"),
        pytest.param(lambda: Canvas.from_task(8, 8, "OPV", float("nan")), "ratio nan", id="ratio-nan"),
        pytest.param(lambda: Canvas.from_task(8, 8, "OPV", 0.01), "nothing to generate", id="ratio-under-a-pixel"),
    ],
)
def test_an_impossible_canvas_is_refused_in_one_line(make, seen):
    with pytest.raises(UsageError) as error:
        make()
    assert seen in str(error.value)
    assert "\n" not in str(error.value)


def test_describe_shows_the_sides():
    assert (
        Canvas.from_task(192, 256, "OPV", 0.25).describe() == "192x256 to 256x256 (top 0, right 32, bottom 0, left 32)"
    )


@settings(max_examples=30)
@given(size=sizes, padding=sides)
def test_placed_pixels_and_masks_agree_with_a_plain_numpy_canvas(size, padding):
    (width, height), (top, _, _, left) = size, padding
    canvas = Canvas(width, height, *padding)
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    expected = np.zeros((2, canvas.model_height, canvas.model_width, 3))
    expected[:, top : top + height, left : left + width] = frames / 127.5 - 1
    known = np.zeros((canvas.model_height, canvas.model_width), bool)
    known[top : top + height, left : left + width] = True

    placed = place_source(canvas, frames)
    assert placed.dtype == torch.float32
    np.testing.assert_allclose(placed.permute(0, 2, 3, 1), expected, atol=1e-6)
    np.testing.assert_array_equal(pixel_mask(canvas)[0], ~known)
    cells = known.reshape(canvas.model_height // 8, 8, canvas.model_width // 8, 8).all(axis=(1, 3))
    np.testing.assert_array_equal(latent_mask(canvas)[0], ~cells)


def test_finished_frames_are_known_everywhere_and_their_strip_repeats_the_edge():
    canvas = Canvas(10, 10, 1, 2, 2, 1)  # 13x13 in a model frame of 16x16
    finished = np.random.default_rng(0).integers(0, 256, (3, 13, 13, 3), dtype=np.uint8)
    placed = place_finished(canvas, finished)
    expected = np.pad(finished, ((0, 0), (0, 3), (0, 3), (0, 0)), mode="edge") / 127.5 - 1
    np.testing.assert_allclose(placed.permute(0, 2, 3, 1), expected, atol=1e-6)


@settings(max_examples=30)
@given(size=sizes, padding=sides, feather=st.sampled_from([0, 1, 8, 50]))
def test_source_pixels_come_back_bit_exact_and_far_pixels_are_the_models(size, padding, feather):
    (width, height), (top, _, _, left) = size, padding
    canvas = Canvas(width, height, *padding)
    random = np.random.default_rng(1)
    source = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    levels = random.integers(0, 256, (2, canvas.model_height, canvas.model_width, 3))
    generated = torch.from_numpy(levels / 127.5 - 1).permute(0, 3, 1, 2).float()

    result = composite(canvas, generated, source, feather)
    assert result.dtype == np.uint8
    assert result.shape == (2, canvas.height, canvas.width, 3)
    np.testing.assert_array_equal(result[:, top : top + height, left : left + width], source)
    y, x = np.arange(canvas.height), np.arange(canvas.width)
    outside_y = np.maximum(np.maximum(top - y, y - (top + height - 1)), 0)
    outside_x = np.maximum(np.maximum(left - x, x - (left + width - 1)), 0)
    far = np.maximum(outside_y[:, None], outside_x[None]) > feather
    np.testing.assert_array_equal(result[:, far], levels[:, : canvas.height, : canvas.width][:, far])


@settings(max_examples=20)
@given(size=sizes, padding=sides, feather=st.sampled_from([1, 5, 8]))
def test_the_seam_is_what_its_definition_says_pixel_by_pixel(size, padding, feather):
    """float64, one generated pixel at a time: the nearest source pixel's surroundings, and their mean difference."""
    (width, height), (top, _, _, left) = size, padding
    canvas = Canvas(width, height, *padding)
    random = np.random.default_rng(3)
    source = random.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    made = random.uniform(-1, 1, (canvas.model_height, canvas.model_width, 3))
    inside = made[top : top + height, left : left + width]
    difference = source[0] / 127.5 - 1 - inside.astype(np.float32)
    result = composite(canvas, torch.from_numpy(made).permute(2, 0, 1)[None].float(), source, feather)[0]
    for y, x in np.ndindex(canvas.height, canvas.width):
        near_y, near_x = np.clip(y - top, 0, height - 1), np.clip(x - left, 0, width - 1)
        distance = max(abs(y - top - near_y), abs(x - left - near_x))
        if not 0 < distance <= feather:
            continue
        box = [slice(max(0, near - feather // 2), near + feather // 2 + 1) for near in (near_y, near_x)]
        weight = 0.5 + 0.5 * np.cos(np.pi * distance / (feather + 1))
        wanted = np.clip(made[y, x] + weight * difference[*box].mean((0, 1)), -1, 1)
        assert np.abs(result[y, x] - (wanted + 1) * 127.5).max() <= 0.501  # rounding to grey levels


def test_a_shift_in_colour_leaves_no_step_at_the_seam_and_fades_monotonically():
    canvas = Canvas(32, 32, 0, 32, 0, 0)
    source = np.full((1, 32, 32, 3), 100, np.uint8)
    generated = torch.full((1, 3, 32, 64), 140 / 127.5 - 1)
    row = composite(canvas, generated, source, feather=8)[0, 16, :, 0].astype(int)
    assert row[31] == 100
    assert row[32] - row[31] <= 2  # of a step of 40
    assert (np.diff(row[31:48]) >= 0).all()
    assert (np.diff(row) <= 8).all()
    assert (row[40:] == 140).all()


def test_without_a_difference_the_feather_changes_nothing():
    canvas = Canvas(24, 24, 8, 8, 8, 8)
    whole = np.random.default_rng(2).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    generated = torch.from_numpy(whole / 127.5 - 1).permute(0, 3, 1, 2).float()
    np.testing.assert_array_equal(composite(canvas, generated, whole[:, 8:32, 8:32].copy(), 8), whole)


def test_fine_texture_lost_by_the_model_is_not_drawn_out_as_streaks():
    """A source of black and white columns beside a flat grey of the same mean: the grey must stay."""
    canvas = Canvas(64, 32, 16, 0, 0, 0)
    source = np.zeros((1, 32, 64, 3), np.uint8)
    source[:, :, ::2] = 255
    grey = torch.zeros(1, 3, 48, 64)
    ring = composite(canvas, grey, source, feather=8)[0, 8:16, 8:56].astype(int)
    assert abs(ring - 127.5).max() < 16  # one pixel's own difference would carry 127


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda c: place_source(c, np.zeros((1, 8, 9, 3), np.uint8)), id="source-of-another-size"),
        pytest.param(lambda c: place_source(c, np.zeros((1, 8, 8, 3), np.float32)), id="source-of-floats"),
        pytest.param(lambda c: place_finished(c, np.zeros((1, 8, 8, 3), np.uint8)), id="finished-of-source-size"),
        pytest.param(
            lambda c: composite(c, torch.zeros(1, 3, 16, 8), np.zeros((1, 8, 8, 3), np.uint8), 8),
            id="generated-too-narrow",
        ),
    ],
)
def test_frames_that_do_not_fit_are_refused(call):
    with pytest.raises(UsageError):
        call(Canvas(8, 8, 4, 4, 4, 4))
