"""Sessions: frames pushed in any portions, many at once on one engine set, cancelled, in any order."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hero_rt import Outpainter
from hero_rt.engines import Observer, open_engines
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import Cancelled, UsageError
from hero_rt.plan import resolve
from hero_rt.request import OutpaintRequest
from hero_rt.schedule import Schedule
from hero_rt.session import OutpaintSession, Prepared, StepDone, WindowFinished
from hero_rt.spec.canvas import Canvas
from hero_rt.stages.flow import flow_mask, optical_flow
from hero_rt.video import open_video
from hero_rt.windows import count_stream_windows
from tests.clips import small_clip
from tests.runtime.recording import ZeroEngines

PAD = (0, 24, 0, 24)  # 80x64 -> 128x64


def session_for(engines, clip, on_event=lambda event: None, **request) -> OutpaintSession:
    asked = OutpaintRequest.from_keywords(pad=PAD, **request)
    return OutpaintSession(resolve(asked, open_video(clip), engines), Schedule([engines]), on_event)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return small_clip(frames=28)


@pytest.fixture(scope="module", params=["eager", "onnxruntime"])
def engines(request, tiny, engine_folder):
    opened = EagerEngines(tiny) if request.param == "eager" else open_engines(engine_folder, "cpu")
    yield opened
    opened.close()


@pytest.mark.parametrize("overlap", [0, 1, 2, 5, 15])
def test_the_flow_between_two_frames_is_estimated_once_and_as_without_windows(monkeypatch, overlap):
    source = small_clip(frames=40)
    pairs = []
    given_flow = []

    def counted(frames, method):
        pairs.extend((first.tobytes(), second.tobytes()) for first, second in pairwise(frames))
        return optical_flow(frames, method)

    class FlowInputs(Observer):
        def before_run(self, engine, binding, inputs):
            if engine.submodule == "flow_encoder":
                given_flow.append(inputs["flow_mask"][:, :2].clone())

    monkeypatch.setattr("hero_rt.session.optical_flow", counted)
    engines = ZeroEngines()
    engines.observers.append(FlowInputs())
    session_for(engines, source, mode="stream", overlap=overlap, steps=1).push(source)
    windows = [source[first : first + 16] for first in range(0, 25, 16 - overlap)]
    assert (
        len(pairs)
        == len(set(pairs))
        == (len(windows) * 15 if overlap < 2 else (len(windows) - 1) * (16 - overlap) + 15)
    )
    canvas = Canvas(80, 64, *PAD)
    for seen, window in zip(given_flow, windows, strict=True):
        assert torch.equal(seen, flow_mask(optical_flow(window), canvas, engines.config.flow_scale)[:, :2])


@settings(max_examples=40, deadline=None)
@given(num_frames=st.integers(1, 60), overlap=st.integers(0, 15), portions=st.lists(st.integers(1, 20), min_size=1))
def test_a_stream_returns_each_frame_once_in_whatever_portions_it_is_fed(num_frames, overlap, portions):
    source = np.random.default_rng(0).integers(0, 256, (num_frames, 16, 24, 3), np.uint8)
    seen: list[np.ndarray] = []
    windows = []
    engines = ZeroEngines()
    carried = []

    class Encoder(Observer):
        def before_run(self, engine, binding, inputs):
            if engine.submodule == "vae_encoder":
                carried.append(inputs["frames"].clone())

    engines.observers.append(Encoder())
    request = OutpaintRequest.from_keywords(pad=(0, 4, 0, 4), steps=1, mode="stream", overlap=overlap, feather=0)
    session = OutpaintSession(
        resolve(request, open_video(source), engines),
        Schedule([engines]),
        lambda event: windows.append(event.window) if isinstance(event, WindowFinished) else None,
    )
    begin = 0
    while begin < num_frames:
        count = portions[len(seen) % len(portions)]
        seen += session.push(source[begin : begin + count])
        begin += count
    assert sum(map(len, seen)) <= num_frames
    seen += session.finish()
    result = np.concatenate(seen)
    assert np.array_equal(result[:, :, 4:-4], source)
    assert windows == list(range(count_stream_windows(num_frames, 16, overlap)))
    # what enters a window as known are the frames that were returned last, both sides included
    first = 0
    for number, frames in enumerate(carried[1:], 1):
        first += 16 - overlap
        known = result[first : first + overlap]
        assert number < len(windows)
        assert torch.equal(((frames[:overlap] + 1) * 127.5).round().permute(0, 2, 3, 1).byte(), torch.from_numpy(known))


@pytest.mark.parametrize("mode", ["joint", "stream"])
def test_one_frame_at_a_time_five_at_a_time_and_all_at_once_give_the_same_frames(engines, clip, mode):
    results = []
    for portion in (1, 5, len(clip)):
        session = session_for(engines, clip, steps=2, mode=mode, eta=1.0)
        chunks = []
        for begin in range(0, len(clip), portion):
            chunks += session.push(clip[begin : begin + portion])
        results.append(np.concatenate(chunks + session.finish()))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    assert np.array_equal(results[0][:, :, 24:-24], clip)


def test_events_come_in_order_with_their_window(engines, clip):
    events = []
    session = session_for(engines, clip, events.append, steps=2, mode="stream")
    chunks = list(session.run(clip))
    kinds = [(type(event), event.window) for event in events]
    assert kinds == [(kind, window) for window in (0, 1) for kind in (Prepared, StepDone, StepDone, WindowFinished)]
    assert [event.step for event in events if isinstance(event, StepDone)] == [0, 1, 0, 1]
    finished = [event.frames for event in events if isinstance(event, WindowFinished)]
    assert all(np.array_equal(event, chunk) for event, chunk in zip(finished, chunks, strict=True))


CLIPS = [  # source window of carphone, request
    (slice(0, 16), {"pad": PAD, "steps": 2, "seed": 1}),
    (slice(4, 20), {"pad": (0, 0, 0, 48), "steps": 2, "seed": 2, "eta": 1.0}),
    (slice(8, 28), {"pad": PAD, "steps": 2, "seed": 3, "mode": "stream"}),
    (slice(0, 20), {"pad": PAD, "steps": 2, "seed": 4, "guidance_scale": 2.0}),
]


def outpaint(outpainter: Outpainter, clip: np.ndarray, which: int) -> np.ndarray:
    part, keywords = CLIPS[which]
    request = OutpaintRequest.from_keywords(**keywords)
    with open_video(clip[part]) as source:
        session = outpainter.session(source, request)
        return np.concatenate(list(session.run(source.frames())))


def test_four_threads_on_one_outpainter_get_their_own_frames_in_three_rounds(engines, clip):
    outpainter = Outpainter(engines)
    want = [outpaint(outpainter, clip, which) for which in range(4)]
    assert len({frames.tobytes() for frames in want}) == 4
    for _ in range(3):
        with ThreadPoolExecutor(4) as threads:
            got = list(threads.map(lambda which: outpaint(outpainter, clip, which), range(4)))
        assert all(np.array_equal(g, w) for g, w in zip(got, want, strict=True))


def test_a_callback_may_outpaint_another_clip(engines, clip):
    outpainter = Outpainter(engines)
    outpainter.set_progress_bar_config(disable=True)
    keywords = {"pad": PAD, "num_inference_steps": 2}
    want, other = outpainter(clip[:16], seed=1, **keywords), outpainter(clip[4:20], seed=2, **keywords)
    inner = []

    def callback(pipe, step, timestep, kwargs):
        inner.append(pipe(clip[4:20], seed=2, **keywords).frames)  # and returns None

    got = outpainter(clip[:16], seed=1, callback_on_step_end=callback, **keywords)
    assert np.array_equal(got.frames, want.frames)
    assert len(inner) == 2
    assert all(np.array_equal(frames, other.frames) for frames in inner)


def test_cancelling_one_session_stops_it_between_steps_and_leaves_the_others(engines, clip):
    outpainter = Outpainter(engines)
    want = outpaint(outpainter, clip, 0)
    steps = []
    request = OutpaintRequest.from_keywords(pad=PAD, steps=1000)
    running = threading.Event()

    def on_event(event):
        if isinstance(event, StepDone):
            steps.append(event.step)
            running.set()

    with open_video(clip[:16]) as source, ThreadPoolExecutor(2) as threads:
        session = outpainter.session(source, request, on_event)
        cancelled = threads.submit(lambda: list(session.run(source.frames())))
        assert running.wait(timeout=600)
        other = threads.submit(outpaint, outpainter, clip, 0)
        session.cancel()
        with pytest.raises(Cancelled):
            cancelled.result()
        assert np.array_equal(other.result(), want)
    assert len(steps) < 1000
    with pytest.raises(Cancelled):
        session.push(clip[0])


def test_joint_windows_in_parallel_and_in_reversed_order_give_the_same_frames(tiny, engine_folder, clip, monkeypatch):
    request = OutpaintRequest.from_keywords(pad=PAD, steps=3, eta=1.0, mode="joint")

    def run(*sets) -> np.ndarray:
        with open_video(clip) as source:
            session = Outpainter(*sets).session(source, request)
            return np.concatenate(list(session.run(source.frames())))

    want = run(open_engines(engine_folder, "cpu"))
    assert np.array_equal(want, run(open_engines(engine_folder, "cpu"), open_engines(engine_folder, "cpu")))
    eager = run(EagerEngines(tiny))
    assert np.array_equal(eager, run(EagerEngines(tiny), EagerEngines(tiny)))

    def reversed_map(schedule, parts):
        class Map:
            def __enter__(self):
                return lambda function, items: [function(item) for item in reversed(items)][::-1]

            def __exit__(self, *_):
                pass

        return Map()

    monkeypatch.setattr(Schedule, "parallel", reversed_map)
    assert np.array_equal(want, run(open_engines(engine_folder, "cpu")))


def test_warm_up_opens_every_engine_so_that_nothing_is_opened_later(engine_folder, clip, monkeypatch):
    with Outpainter.from_engines(engine_folder, "cpu") as outpainter:
        request = OutpaintRequest.from_keywords(pad=PAD, steps=1)
        outpainter.warm_up(request.frame.canvas(80, 64))
        monkeypatch.setattr(outpainter.engines, "_open", None)  # opening one more would fail
        with open_video(clip[:16]) as source:
            session = outpainter.session(source, request)
            assert len(np.concatenate(list(session.run(source.frames())))) == 16


def test_a_finished_session_and_wrong_frames_are_refused(clip):
    session = session_for(ZeroEngines(), clip, steps=1)
    with pytest.raises(UsageError, match=r"source frames are uint8\[1, 64, 40, 3\], expected uint8\[F, 64, 80, 3\]"):
        session.push(clip[0, :, :40])
    session.push(clip)
    assert [len(chunk) for chunk in session.finish()] == [28]
    with pytest.raises(UsageError, match="the session is finished"):
        session.push(clip)


def test_a_device_gives_turns_in_the_order_of_asking():
    """Three threads ask while a fourth holds the turn; each notes itself when it gets its own."""
    device = Schedule([ZeroEngines()]).devices[0]
    order: list[int] = []
    never = threading.Event()

    def work(name: int) -> None:
        with device.turn(never):
            order.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    with device.turn(never):
        for number, thread in enumerate(threads, 2):
            thread.start()
            while len(device._waiting) < number:  # asked, one after the other; the first holds the turn
                pass
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]


@pytest.mark.parametrize("mode", ["joint", "stream"])
@pytest.mark.parametrize("most", [5, 18, 28])
def test_a_session_takes_the_requests_max_frames_and_no_more(clip, mode, most):
    asked = {"mode": mode, "steps": 1, "max_frames": most}
    session = session_for(ZeroEngines(), clip, **asked)
    assert session.plan.num_frames == most
    chunks = [chunk for begin in range(0, 28, 3) for chunk in session.push(clip[begin : begin + 3])]
    got = np.concatenate(chunks + session.finish())
    assert np.array_equal(got[:, :, 24:-24], clip[:most])
    pulled = iter(clip)  # as from a camera: what is not needed is not read
    assert sum(map(len, session_for(ZeroEngines(), clip, **asked).run(pulled))) == most
    assert len(list(pulled)) == 28 - most


def test_an_event_says_how_far_the_clip_is_and_prints_in_a_line(clip):
    events = []
    list(session_for(ZeroEngines(), clip, events.append, steps=3, mode="stream", sampler="heun").run(clip))
    assert {event.num_windows for event in events} == {2}
    steps = [(event.window, event.step) for event in events if isinstance(event, StepDone)]
    assert steps == [(window, step) for window in range(2) for step in range(5)]  # Heun takes 2 · 3 - 1
    assert {event.steps for event in events if not isinstance(event, WindowFinished)} == {5}
    assert all(len(repr(event)) < 120 and "\n" not in repr(event) for event in events)


def test_frames_of_pillow_are_frames(clip):
    session = session_for(ZeroEngines(), clip[:16], steps=1)
    for frame in clip[:16]:
        session.push(Image.fromarray(frame))
    assert np.array_equal(session.finish()[0][:, :, 24:-24], clip[:16])
