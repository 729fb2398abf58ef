"""A request is data: one set of defaults, one line for each mistake, the same from Python, JSON and the command."""

import inspect
import json
from fractions import Fraction
from typing import get_args

import click
import numpy as np
import pytest
import torch
import typer.main

import hero_rt.cli
from hero_rt import Outpainter
from hero_rt.errors import UsageError
from hero_rt.request import (
    FRAME_KEYWORDS,
    Anchor,
    AspectRatio,
    OutpaintRequest,
    OutputOptions,
    Padding,
    TargetSize,
    Task,
    TaskName,
)
from hero_rt.spec.canvas import ANCHORS, TASKS, Canvas

FRAMES = [
    pytest.param({"pad": (1, 2, 3, 4)}, Padding(top=1, right=2, bottom=3, left=4), id="padding"),
    pytest.param({"size": (128, 64)}, TargetSize(width=128, height=64), id="size"),
    pytest.param({"size": (128, 64), "anchor": "top"}, TargetSize(width=128, height=64, anchor="top"), id="anchor"),
    pytest.param({"aspect": "2.39:1"}, AspectRatio(ratio="2.39:1"), id="aspect"),
    pytest.param({"task": "OPV", "ratio": 0.25}, Task(task="OPV", ratio=0.25), id="task"),
]


@pytest.mark.parametrize(("keywords", "frame"), FRAMES)
def test_keywords_name_the_frame_and_json_brings_it_back(keywords, frame):
    request = OutpaintRequest.from_keywords(**keywords, steps=7)
    assert request.frame == frame
    assert OutpaintRequest.model_validate_json(request.model_dump_json()) == request
    assert json.loads(request.model_dump_json())["frame"]["kind"] == frame.kind


@pytest.mark.parametrize(
    ("ratio", "source", "target"),
    [
        ("9:16", (1920, 1080), (1920, 3413)),
        ("16:9", (1080, 1920), (3413, 1920)),
        ("1:1", (176, 144), (176, 176)),
        ("4:3", (640, 360), (640, 480)),
        ("2.39:1", (1920, 1080), (2581, 1080)),
    ],
)
def test_an_aspect_ratio_is_the_smallest_frame_around_the_source(ratio, source, target):
    canvas = AspectRatio(ratio=ratio).canvas(*source)
    assert (canvas.width, canvas.height) == target
    assert abs(canvas.left - canvas.right) <= 1
    assert abs(canvas.top - canvas.bottom) <= 1
    assert AspectRatio(ratio=ratio, anchor="top-left").canvas(*source) == Canvas(
        *source, 0, target[0] - source[0], target[1] - source[1], 0
    )


PAD = {"pad": (0, 24, 0, 24)}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        pytest.param({}, "exactly one of pad, size, aspect and task", id="no-frame"),
        pytest.param(PAD | {"size": (128, 64)}, "exactly one of .*; pad and size are given", id="two-frames"),
        pytest.param({"task": "OPV"}, "task OPV needs a ratio", id="no-ratio"),
        pytest.param({"task": "OPX", "ratio": 0.2}, "^task is 'OPX': input should be 'OPC', 'OPV' or 'OPH'", id="task"),
        pytest.param({"task": "OPV", "ratio": 1.5}, "^ratio is 1.5: input should be less than 1", id="ratio"),
        pytest.param({"pad": (0, -8, 0, 8)}, "^pad right is -8: input should be greater than or equal to 0", id="negative"),
        pytest.param({"pad": (0, 8.5, 0, 8)}, "^pad right is 8.5: input should be a valid integer", id="half-a-pixel"),
        pytest.param({"pad": (0, 8)}, r"pad is \(0, 8\); it is \(top, right, bottom, left\) in pixels", id="two-sides"),
        pytest.param({"size": "256x144"}, r"size is '256x144'; it is \(width, height\)", id="size-text"),
        pytest.param({"size": (0, 8)}, "^size width is 0: input should be greater than or equal to 1", id="no-width"),
        pytest.param({"aspect": "wide"}, "^aspect is 'wide'", id="aspect"),
        pytest.param({"size": (9, 9), "anchor": "middle"}, "^anchor is 'middle'", id="anchor"),
        pytest.param(PAD | {"anchor": "top"}, "anchor has no effect with pad", id="anchor-with-pad"),
        pytest.param({"size": (9, 9), "ratio": 0.5}, "ratio has no effect with size", id="ratio-with-size"),
        pytest.param(PAD | {"mode": "joint", "max_joint_frames": 9}, "max_joint_frames has no effect in mode joint", id="max-joint"),
        pytest.param(PAD | {"mode": "stream", "max_joint_frames": 64}, "max_joint_frames has no effect in mode stream", id="max-joint-default"),
        pytest.param(PAD | {"steps": 0}, "steps is 0: input should be greater than or equal to 1", id="no-steps"),
        pytest.param(PAD | {"steps": 2.0}, "steps is 2.0: input should be a valid integer", id="float-steps"),
        pytest.param(PAD | {"steps": 1001}, "steps is 1001: input should be less than or equal to 1000", id="steps"),
        pytest.param(PAD | {"guidance_scale": float("nan")}, "guidance_scale is nan: input should be a finite number", id="nan"),
        pytest.param(PAD | {"seed": 2**64}, "seed is 18446744073709551616: input should be less than", id="seed"),
        pytest.param(PAD | {"seed": -1}, "seed is -1", id="negative-seed"),
        pytest.param(PAD | {"eta": 2.0}, "eta is 2.0: input should be less than or equal to 1", id="eta"),
        pytest.param(PAD | {"eta": -0.1}, "eta is -0.1: input should be greater than or equal to 0", id="eta-below-0"),
        pytest.param(PAD | {"eta": float("nan")}, "eta is nan: ", id="eta-nan"),
        pytest.param(PAD | {"mode": "both"}, "mode is 'both': input should be 'auto', 'joint' or 'stream'", id="mode"),
        pytest.param(PAD | {"feather": -1}, "feather is -1", id="feather"),
        pytest.param(PAD | {"flow": "farneback"}, "flow is 'farneback': input should be 'dis' or 'raft'", id="flow"),
        pytest.param(PAD | {"colour": "blue"}, "colour is not a field; known: frame, steps", id="unknown"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_naming_the_field(keywords, message):
    with pytest.raises(UsageError, match=message) as caught:
        OutpaintRequest.from_keywords(**keywords)
    assert "\n" not in str(caught.value)


def test_a_file_names_itself_in_its_mistake(tmp_path):
    path = tmp_path / "request.json"
    with pytest.raises(UsageError, match=r"request.json cannot be read: No such file"):
        OutpaintRequest.read(path)
    path.write_text('{"frame": {"kind": "padding", "left": 8}, "steps": "many"}')
    with pytest.raises(UsageError, match=r"request.json: steps is 'many': input should be a valid integer"):
        OutpaintRequest.read(path)
    path.write_text("{")
    with pytest.raises(UsageError, match=r"request.json: Invalid JSON"):
        OutpaintRequest.read(path)


def test_keywords_go_over_a_request():
    base = OutpaintRequest(frame=Padding(left=8, right=8), steps=7, eta=0.5)
    changed = OutpaintRequest.from_keywords(base, steps=9)
    assert changed == OutpaintRequest.from_keywords(pad=(0, 8, 0, 8), steps=9, eta=0.5)
    assert OutpaintRequest.from_keywords(base, aspect="1:1").frame == AspectRatio(ratio="1:1")


def test_a_generator_gives_the_seed_and_nothing_else(tiny):
    arguments = {"num_inference_steps": None, "pad": (0, 8, 0, 8), "seed": None}
    generator = torch.Generator().manual_seed(2**63 + 1)
    torch.randn(5, generator=generator)
    assert OutpaintRequest.from_call(None, arguments | {"generator": generator}).seed == 2**63 + 1
    with pytest.raises(UsageError, match="seed and generator are both given"):
        OutpaintRequest.from_call(None, arguments | {"generator": generator, "seed": 1})
    with pytest.raises(UsageError, match=r"generator is 0; give a torch\.Generator, or seed=0"):
        OutpaintRequest.from_call(None, arguments | {"generator": 0})


def test_anchors_and_tasks_are_those_of_the_canvas():
    assert set(get_args(Anchor)) == ANCHORS.keys()
    assert set(get_args(TaskName)) == TASKS.keys()


BESIDE = {"self", "video", "request", "generator", "latents", "output_type", "callback_on_step_end", "on_event"}


@pytest.mark.parametrize("method", ["__call__", "stream"])
def test_the_keywords_of_python_are_the_fields(method):
    parameters = inspect.signature(getattr(Outpainter, method)).parameters
    names = {"steps" if name == "num_inference_steps" else name for name in parameters if name not in BESIDE}
    left_out = {"mode", "max_joint_frames"} if method == "stream" else set()
    assert names == (set(OutpaintRequest.model_fields) | set(FRAME_KEYWORDS)) - {"frame"} - left_out
    # defaults stand in the model: every keyword is None, and has the field's type
    types = OutpaintRequest.__annotations__
    for name, parameter in parameters.items():
        if name not in BESIDE:
            assert parameter.default is None
            field = "steps" if name == "num_inference_steps" else name
            if field in types:
                assert parameter.annotation in (types[field], types[field] | None)


def test_the_options_of_the_command_are_the_fields():
    command = typer.main.get_command(hero_rt.cli.app).get_command(click.Context(click.Command("x")), "outpaint")
    options = {param.name for param in command.params}
    fields = set(OutpaintRequest.model_fields) - {"frame"} | set(FRAME_KEYWORDS) | set(OutputOptions.model_fields)
    assert fields <= options
    assert options - fields == {
        "input", "output", "engines", "checkpoint", "device", "request", "frame_rate", "contact_sheet", "profile"
    }  # fmt: skip
    for model in (OutpaintRequest, OutputOptions):
        for name, field in model.model_fields.items():
            assert field.description, name


@pytest.mark.parametrize("mode", ["auto", "joint", "stream"])
def test_a_request_of_any_mode_comes_back_from_its_file(tmp_path, mode):
    request = OutpaintRequest.from_keywords(pad=(0, 8, 0, 8), mode=mode)
    (tmp_path / "request.json").write_text(request.model_dump_json())
    assert OutpaintRequest.read(tmp_path / "request.json") == request


@pytest.mark.parametrize("longest", [64, 20])
@pytest.mark.parametrize("mode", ["joint", "stream"])
def test_the_mode_of_a_request_that_was_read_can_be_replaced(tmp_path, mode, longest):
    saved = OutpaintRequest.from_keywords(pad=(0, 8, 0, 8), max_joint_frames=longest)
    (tmp_path / "request.json").write_text(saved.model_dump_json())
    changed = OutpaintRequest.from_keywords(OutpaintRequest.read(tmp_path / "request.json"), mode=mode)
    assert (changed.mode, changed.frame) == (mode, saved.frame)


@pytest.mark.parametrize(("keywords", "frame"), FRAMES)
def test_the_shortest_json_of_a_request_comes_back_and_the_schema_asks_for_its_kind(tmp_path, keywords, frame):
    request = OutpaintRequest.from_keywords(**keywords, steps=7)
    short = json.loads(request.model_dump_json(exclude_defaults=True))
    assert short["frame"]["kind"] == frame.kind
    assert OutpaintRequest.parse(short) == request
    definitions = OutpaintRequest.model_json_schema()["$defs"]
    assert definitions[type(frame).__name__]["required"][0] == "kind"
    path = str(tmp_path / "request.json")  # text, as an application has it
    assert OutpaintRequest.read(request.save(path)) == OutpaintRequest.read(path) == request
    with pytest.raises(UsageError, match=r"no/request.json cannot be written: No such file"):
        request.save(tmp_path / "no" / "request.json")


def test_numbers_of_numpy_are_numbers():
    given = OutpaintRequest.from_keywords(pad=np.array([1, 2, 3, 4]), seed=np.int64(5), guidance_scale=np.float32(1.5))
    assert given == OutpaintRequest.from_keywords(pad=(1, 2, 3, 4), seed=5, guidance_scale=1.5)
    assert type(given.seed) is type(given.frame.top) is int
    assert TargetSize(width=np.uint16(128), height=np.int32(64)) == TargetSize(width=128, height=64)
    with pytest.raises(UsageError, match=r"steps is 2\.0: input should be a valid integer"):
        OutpaintRequest.from_keywords(pad=(0, 8, 0, 8), steps=np.float64(2))


@pytest.mark.parametrize("pixels", [Fraction(4, 3), Fraction(128, 117), Fraction(1, 2)])
def test_an_aspect_ratio_is_of_the_displayed_frame(pixels):
    canvas = AspectRatio(ratio="16:9").canvas(720, 576, pixels)
    assert (canvas.width == 720) != (canvas.height == 576)
    assert canvas.width * pixels / canvas.height == pytest.approx(16 / 9, abs=0.005)


def test_what_is_no_request_is_told_how_to_become_one():
    with pytest.raises(UsageError, match=r"request is a dict, not an OutpaintRequest; .*OutpaintRequest\.parse"):
        OutpaintRequest.from_keywords({"frame": {"kind": "padding", "left": 8}}, steps=4)


def test_an_unknown_output_option_lists_the_output_options():
    with pytest.raises(UsageError, match=r"^fps is not a field; known: crf, audio$"):
        OutputOptions.parse({"fps": 25})
