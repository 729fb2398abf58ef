"""Everything that can be refused from request, header and engines is refused before a frame is decoded."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from hero_rt import Outpainter
from hero_rt.engines import open_engines
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import EngineError, UsageError
from hero_rt.plan import resolve
from hero_rt.request import OutpaintRequest
from hero_rt.video import VideoSource
from tests.runtime.recording import Recorder, ZeroEngines


class Counted(VideoSource):
    """A clip that counts its decoded frames."""

    def __init__(self, width: int = 80, height: int = 64, num_frames: int | None = 16):
        self.width, self.height, self.num_frames, self.frame_rate = width, height, num_frames, Fraction(25)
        self.decoded = 0
        self.closed = False

    def frames(self):
        for _ in range(self.num_frames or 40):
            self.decoded += 1
            yield np.zeros((self.height, self.width, 3), np.uint8)

    def close(self):
        self.closed = True


PAD = (0, 24, 0, 24)
REFUSED = [
    pytest.param({"size": (64, 64)}, "target 64x64 is smaller than the source 80x64", id="smaller"),
    pytest.param({"aspect": "5:4"}, "target 80x64 equals the source", id="nothing-to-generate"),
    pytest.param({"size": (10**6, 10**6)}, "target 1000000x1000000 is larger than 16384 pixels a side", id="too-large"),
    pytest.param({"pad": (0, 16305, 0, 0)}, "target 16385x64 is larger than 16384 pixels a side", id="one-too-wide"),
    pytest.param({"aspect": "9999:1"}, "target 639936x64 is larger than 16384 pixels a side", id="too-wide"),
    pytest.param({"aspect": "0:9"}, "aspect ratio 0:9 has a side of zero", id="aspect-zero"),
    pytest.param({"pad": PAD, "sampler": "ddim2"}, "unknown sampler 'ddim2'; known: ddim", id="sampler"),
    pytest.param({"pad": PAD, "sampler": "euler", "eta": 0.5}, "eta is 0.5: it has no effect with sampler euler", id="eta"),
    pytest.param({"pad": PAD, "overlap": 16}, "overlap is 16 frames; windows of 16 can share 0 to 15", id="overlap"),
    pytest.param({"pad": PAD, "flow": "raft"}, "flow raft needs torchvision", id="raft"),
    pytest.param({"pad": PAD, "mode": "stream", "output_type": "latent"}, "stream mode has no latents", id="stream-latents"),
    pytest.param({"pad": PAD, "mode": "stream", "latents": torch.zeros(16, 4, 8, 16)}, "stream mode has no latents", id="latents-in-stream"),
    pytest.param({"pad": PAD, "latents": torch.zeros(1, 4, 8, 16)}, r"latents have shape \[1, 4, 8, 16\], this clip takes \[16,", id="latents"),
    pytest.param({"pad": PAD, "output_type": "jpg"}, "output_type 'jpg' is not one of", id="output-type"),
    pytest.param({"pad": PAD, "steps": 3, "num_inference_steps": 0}, "steps", id="steps"),
    pytest.param({"pad": PAD, "guidance_scale": float("inf")}, "guidance_scale is inf", id="guidance"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_a_request_that_cannot_be_met_decodes_no_frame(arguments, message):
    engines, source = ZeroEngines(), Counted()
    recorder = Recorder(engines)
    known = {name: value for name, value in arguments.items() if name != "steps"}
    with pytest.raises(UsageError, match=message) as caught:
        Outpainter(engines)(source, **known)
    assert "\n" not in str(caught.value)
    assert (source.decoded, sum(recorder.runs.values())) == (0, 0)


@pytest.mark.parametrize(
    "arguments", [{"size": (64, 64)}, {"pad": PAD, "overlap": 16}, {"pad": PAD, "sampler": "x"}, {"pad": (0, -8, 0, 0)}]
)
def test_stream_refuses_when_called_not_at_its_first_frame(arguments):
    source = Counted()
    with pytest.raises(UsageError):
        Outpainter(ZeroEngines()).stream(source, **arguments)
    assert source.decoded == 0


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_a_canvas_without_an_engine_decodes_no_frame(engine_folder, guidance_scale):
    source = Counted()
    with (
        Outpainter.from_engines(engine_folder, "cpu") as outpainter,
        pytest.raises(EngineError, match=r"engine for 144x64x16.*, only for 128x64x16.*hero-export build-engines"),
    ):
        outpainter(source, pad=(0, 32, 0, 32), guidance_scale=guidance_scale)
    assert source.decoded == 0


def test_frames_too_small_for_flow_decode_no_frame():
    source = Counted(width=80, height=12)
    with pytest.raises(UsageError, match="80x12 px are too small for optical flow"):
        Outpainter(ZeroEngines())(source, pad=PAD)
    assert source.decoded == 0


@pytest.mark.parametrize(
    ("options", "num_frames", "mode", "windows"),
    [
        ({}, 64, "joint", 1),
        ({}, 65, "stream", 6),
        ({}, None, "stream", None),
        ({"mode": "joint"}, 100, "joint", 1),
        ({"mode": "stream"}, 16, "stream", 1),
        ({"max_joint_frames": 20}, 21, "stream", 2),
        ({"max_frames": 30}, 100, "joint", 1),
        ({"max_frames": 30}, None, "stream", None),
    ],
)
def test_the_windowing_rule_follows_the_length(options, num_frames, mode, windows):
    request = OutpaintRequest.from_keywords(pad=PAD, **options)
    plan = resolve(request, Counted(num_frames=num_frames), ZeroEngines())
    assert (plan.mode, plan.num_windows) == (mode, windows)


def test_a_callers_own_source_stays_open_and_what_was_opened_here_is_closed(monkeypatch):
    outpainter = Outpainter(ZeroEngines())
    outpainter.set_progress_bar_config(disable=True)
    source = Counted()
    outpainter(source, pad=PAD, num_inference_steps=1)
    list(outpainter.stream(source, pad=PAD, num_inference_steps=1))
    assert source.decoded == 32
    assert not source.closed
    opened = Counted()
    monkeypatch.setattr("hero_rt.video.reader._open", lambda video, frame_rate: opened)
    outpainter("clip.mp4", pad=PAD, num_inference_steps=1)
    assert opened.closed


@pytest.mark.parametrize(
    ("pad", "said"),
    [
        pytest.param((0, 24, 0, 24), [], id="as-trained"),
        pytest.param((0, 0, 0, 170), ["68% of a side is generated, hero-tiny was trained for 60%"], id="wide"),
        pytest.param((100, 0, 150, 0), ["80% of a side is generated", "the frame is 80x314, hero-tiny was trained at 128"], id="both"),
    ],
)  # fmt: skip
def test_a_request_outside_of_what_a_checkpoint_was_trained_for_is_told(caplog, pad, said):
    outpainter = Outpainter.from_pretrained("hero-tiny", device="cpu")
    plan = outpainter.plan(Counted(), OutpaintRequest.from_keywords(pad=pad))
    lines = [record.message for record in caplog.records if record.name == "hero_rt.plan"]
    assert lines == plan.warnings(outpainter.config)
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))


def test_closed_engines_are_one_clear_error(tiny, engine_folder):
    for engines, message in (
        (EagerEngines(tiny), "the PyTorch model hero-tiny is closed; open it again"),
        (open_engines(engine_folder, "cpu"), f"{engine_folder} is closed"),
    ):
        profile = resolve(OutpaintRequest.from_keywords(pad=PAD), Counted(), engines).profile
        decoder = engines.open("vae_decoder", profile)
        with Outpainter(engines) as outpainter:
            outpainter.set_progress_bar_config(disable=True)
        with pytest.raises(EngineError, match=message):
            outpainter(Counted(), pad=PAD, num_inference_steps=1)
        with pytest.raises(EngineError, match="is closed; open the engines again"):
            decoder(latents=torch.zeros(16, 4, 8, 16))


def test_a_path_in_place_of_a_clip_and_a_dict_in_place_of_a_request_are_told():
    outpainter, request = Outpainter(ZeroEngines()), OutpaintRequest.from_keywords(pad=PAD)
    with pytest.raises(UsageError, match=r"clip is a str; open it first: hero_rt\.video\.open_video"):
        outpainter.session("in.mp4", request)
    for call in (outpainter.session, outpainter, outpainter.stream):
        with pytest.raises(UsageError, match="request is a dict, not an OutpaintRequest"):
            call(Counted(), {"pad": PAD})


def test_an_aspect_ratio_counts_the_shape_of_the_pixels():
    source = Counted(720, 576)
    source.pixel_aspect = Fraction(16, 15)  # 4:3 on the screen
    plan = resolve(OutpaintRequest.from_keywords(aspect="16:9"), source, ZeroEngines())
    assert (plan.canvas.width, plan.canvas.height) == (960, 576)
