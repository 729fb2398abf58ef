"""A stream can be stopped from any thread, and does not end in silence; results print in a line."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hero_rt import Outpainter, OutpaintRequest
from hero_rt.errors import Cancelled, UsageError
from hero_rt.session import Prepared, StepDone, WindowFinished
from hero_rt.video import open_video
from hero_rt.video.source import BorrowedSource
from tests.clips import small_clip
from tests.runtime.recording import ZeroEngines

PAD = (0, 24, 0, 24)  # 80x64 -> 128x64


class Closing(BorrowedSource):
    """A clip in memory that notes when it is closed."""

    def __init__(self, frames: np.ndarray):
        super().__init__(open_video(frames))
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def outpainter() -> Outpainter:
    made = Outpainter(ZeroEngines())
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def source(monkeypatch) -> Closing:
    """What the outpainter opens in place of any path."""
    opened = Closing(small_clip(40))
    monkeypatch.setattr("hero_rt.video.reader._open", lambda video, frame_rate: opened)
    return opened


@pytest.mark.parametrize("stop", ["cancel", "close"])
def test_another_thread_stops_a_stream_between_two_steps(outpainter, source, stop):
    steps, running = [], threading.Event()

    def on_event(event):
        if isinstance(event, StepDone):
            steps.append(event.step)
            running.set()

    stream = outpainter.stream("clip.mp4", pad=PAD, num_inference_steps=1000, on_event=on_event)
    with ThreadPoolExecutor(1) as threads:
        taken = threads.submit(list, stream)
        assert running.wait(timeout=60)
        getattr(stream, stop)()
        with pytest.raises(Cancelled):
            taken.result()
    assert len(steps) < 1000
    assert source.closed


@pytest.mark.parametrize("stop", ["cancel", "close"])
def test_a_stream_stopped_between_two_windows_does_not_look_complete(outpainter, source, stop):
    stream = outpainter.stream("clip.mp4", pad=PAD, num_inference_steps=1)
    assert len(next(stream)) == 16
    getattr(stream, stop)()
    with pytest.raises(Cancelled):
        next(stream)
    assert source.closed


def test_a_callback_may_close_its_own_stream(outpainter, source):
    stream = outpainter.stream("clip.mp4", pad=PAD, callback_on_step_end=lambda *_: stream.close())
    with pytest.raises(Cancelled):
        list(stream)
    assert source.closed


def test_a_block_closes_its_stream(outpainter, source):
    with outpainter.stream("clip.mp4", pad=PAD, num_inference_steps=1) as stream:
        assert len(next(stream)) == 16
        assert not source.closed
    assert source.closed


def test_an_ended_stream_is_refused_and_writes_nothing(outpainter, source, tmp_path):
    stream = outpainter.stream("clip.mp4", pad=PAD, num_inference_steps=1)
    first = next(stream)
    assert len(first) + sum(map(len, stream)) == 40  # the rest may be taken in a loop
    assert next(stream, None) is None  # an iterator at its end stays there
    for again in (lambda: list(stream), lambda: stream.save(tmp_path / "out.mp4")):
        with pytest.raises(UsageError, match=r"the stream has ended.*call stream\(\) again"):
            again()
    assert not list(tmp_path.iterdir())


def test_both_calls_give_events(outpainter):
    for events, run in (([], outpainter), ([], outpainter.stream)):
        frames = run(small_clip(16), pad=PAD, num_inference_steps=2, on_event=events.append)
        list(getattr(frames, "frames", frames))
        assert [type(event) for event in events] == [Prepared, StepDone, StepDone, WindowFinished]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        pytest.param(lambda latents: latents, r"returned a Tensor; return None, or a dict", id="the-tensor"),
        pytest.param(lambda latents: {"latent": latents}, r"returned a dict with \['latent'\]; ", id="another-name"),
        pytest.param(lambda latents: False, "returned a bool; ", id="false"),
        pytest.param(lambda latents: {"latents": latents[:, :2]}, r"returned float32\[16, 2, 8, 16\] on cpu in place of the latents; they are float32\[16, 4, 8, 16\] on cpu", id="shape"),
        pytest.param(lambda latents: {"latents": latents.half()}, r"returned float16\[16, 4, 8, 16\]", id="dtype"),
        pytest.param(lambda latents: {"latents": latents.to("meta")}, r"\[16, 4, 8, 16\] on meta", id="device"),
        pytest.param(lambda latents: {"latents": latents.numpy()}, "returned a ndarray in place of the latents", id="array"),
    ],
)  # fmt: skip
def test_what_a_callback_returns_is_checked(outpainter, returned, message):
    with pytest.raises(UsageError, match=message) as caught:
        outpainter(small_clip(16), pad=PAD, callback_on_step_end=lambda pipe, i, t, given: returned(given["latents"]))
    assert "\n" not in str(caught.value)


def test_a_request_that_was_read_runs_as_a_stream_and_in_each_mode(outpainter, tmp_path):
    saved = OutpaintRequest.from_keywords(pad=PAD, steps=1, mode="joint").save(tmp_path / "joint.json")
    joint = OutpaintRequest.read(saved)
    auto = OutpaintRequest.read(OutpaintRequest.from_keywords(joint, mode="auto").save(tmp_path / "auto.json"))
    clip = small_clip(20)
    for request in (joint, auto):
        assert [len(chunk) for chunk in outpainter.stream(clip, request)] == [16, 4]
        for mode in ("joint", "stream", "auto"):
            assert outpainter(clip, request, mode=mode).frames.shape == (20, 64, 128, 3)


def test_a_result_prints_in_a_line(outpainter):
    result = outpainter(small_clip(16), pad=PAD, num_inference_steps=1)
    assert len(repr(result)) < 300
    assert "\n" not in repr(result)
