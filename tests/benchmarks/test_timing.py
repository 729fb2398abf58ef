"""Turns, medians and quartiles on a clock that is told what to say. Nothing is timed."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from benchmarks.context import Context
from benchmarks.measure import Contender, compare, compare_frames, measure, verified_counts
from benchmarks.schema import Verification
from benchmarks.settings import Settings
from benchmarks.timing import Clock, CudaClock, GraphClock, interleave, summarise
from hero_export.verify import psnr_of


class FakeClock:
    """Calls what it is given, and answers from a list a name."""

    calls = 1

    def __init__(self, seconds: dict[str, list[float]]):
        self.seconds = {name: iter(values) for name, values in seconds.items()}
        self.order: list[str] = []

    def __call__(self, call):
        name = call()
        self.order.append(name)
        return next(self.seconds[name]), name


def at_once(_, turn):
    return turn()


def test_contenders_take_turns_and_the_warm_up_is_not_recorded():
    clock = FakeClock({"a": [100.0, 1.0, 2.0, 3.0], "b": [100.0, 4.0, 6.0, 5.0]})
    timings = interleave({"a": lambda: "a", "b": lambda: "b"}, clock, 1, 3, at_once)
    assert clock.order == ["a", "b"] * 4
    (a, last), (b, other) = timings["a"], timings["b"]
    assert a.samples == [1.0, 2.0, 3.0]
    assert (a.median, b.median) == (2.0, 5.0)
    assert (b.warmup, b.repeats) == (1, 3)
    assert (last, other) == ("a", "b")


class RecordedCuda:
    """As much of torch.cuda as a clock asks for: says in `order` what would be put on the stream."""

    def __init__(self):
        self.order: list[str] = []

    def get_device_properties(self, _):
        return SimpleNamespace(L2_cache_size=1)

    def Event(self, enable_timing):
        return SimpleNamespace(
            record=lambda: self.order.append("event"), synchronize=lambda: None, elapsed_time=lambda end: 2.0
        )

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: self.order.append("replay"))

    def graph(self, _):
        return nullcontext()


def test_a_kernel_is_captured_once_and_only_its_replay_lies_between_the_events(monkeypatch):
    cuda = RecordedCuda()
    monkeypatch.setattr("benchmarks.timing.torch.cuda", cuda)
    clock = GraphClock(torch.device("cpu"), calls=4)

    def kernel():
        cuda.order.append("kernel")
        return f"output {len(cuda.order)}"

    assert [clock(kernel), clock(kernel)] == [(0.5e-3, "output 4")] * 2  # a quarter of the elapsed milliseconds
    assert cuda.order == [*["kernel"] * 4, *["event", "replay", "event"] * 2]


def test_steps_follow_each_other_between_the_events_and_each_has_its_share(monkeypatch):
    cuda = RecordedCuda()
    monkeypatch.setattr("benchmarks.timing.torch.cuda", cuda)
    clock = CudaClock(torch.device("cpu"), calls=2)
    timing, _ = interleave({"a": lambda: cuda.order.append("step")}, clock, 1, 1, at_once)["a"]
    assert cuda.order == ["event", "step", "step", "event"] * 2
    assert (timing.median, timing.repeats, timing.calls) == (1e-3, 1, 2)


@pytest.mark.parametrize(
    ("samples", "quartiles"),
    [
        pytest.param([7.0], (7.0, 7.0, 7.0), id="one"),
        pytest.param([4.0, 2.0], (2.5, 3.0, 3.5), id="two"),
        pytest.param([5.0, 1.0, 4.0, 2.0, 3.0], (2.0, 3.0, 4.0), id="five"),
    ],
)
def test_quartiles(samples, quartiles):
    timing = summarise(samples, warmup=0)
    assert (timing.lower_quartile, timing.median, timing.upper_quartile) == quartiles
    assert timing.iqr == (quartiles[2] - quartiles[0] if len(samples) > 1 else None)


def judged(passed: bool) -> Verification:
    return Verification(against="truth", relative_l2=0.0 if passed else 0.5, limit=0.1, passed=passed)


@pytest.fixture
def context() -> Context:
    return Context(Settings(device="cpu"), ceilings=None, say=lambda line: None)


def failures(context: Context) -> list[tuple[str, str]]:
    return [(known.name, known.reason) for known in context.unavailable]


def test_what_does_not_match_is_not_even_called_on_the_clock(context):
    clock = FakeClock({"a": [2.0], "b": [1.0]})
    contenders = {
        "a": Contender(lambda: "a", lambda _: judged(True)),
        "wrong": Contender(lambda: "wrong", lambda _: judged(False), lambda _: {"fast": 1.0}),
        "b": Contender(lambda: "b", lambda _: judged(True)),
    }
    case = measure(context, "case", contenders, baseline="a", clock=clock, rounds=(0, 1))
    assert clock.order == ["a", "b"]
    a, wrong, b = case.measurements
    assert (a.ratio, b.ratio) == (1.0, 2.0)
    assert wrong.timing is None
    assert wrong.ratio is None
    assert wrong.figures == {}


def test_a_contender_that_fails_is_left_out_and_the_others_are_timed(context):
    def broken():
        raise RuntimeError("no such kernel")

    contenders = {
        "a": Contender(lambda: "a", lambda _: judged(True)),
        "broken": Contender(broken, lambda _: judged(True)),
        "b": Contender(lambda: "b", lambda _: judged(True)),
    }
    clock = FakeClock({"a": [2.0], "b": [1.0]})
    case = measure(context, "case", contenders, baseline="a", clock=clock, rounds=(0, 1))
    assert [m.name for m in case.measurements] == ["a", "b"]
    assert failures(context) == [("broken case", "RuntimeError: no such kernel")]


def test_what_is_timed_is_judged_too(context):
    """As an engine whose first call runs another way than those that follow."""
    calls = iter(["right", "wrong", "wrong"])
    contenders = {
        "a": Contender(lambda: "a", lambda _: judged(True)),
        "graph": Contender(lambda: next(calls), lambda got: judged(got == "right"), lambda _: {"fast": 1.0}),
    }
    clock = FakeClock({"a": [2.0, 2.0], "wrong": [1.0, 1.0]})
    a, graph = measure(context, "case", contenders, baseline="a", clock=clock, rounds=(1, 1)).measurements
    assert a.timing is not None
    assert (graph.timing, graph.ratio, graph.figures) == (None, None, {})
    assert not graph.verification.passed


@pytest.mark.parametrize("turn", [pytest.param(1, id="warm-up"), pytest.param(2, id="timed")])
def test_a_contender_that_fails_after_its_first_call_costs_the_others_nothing(context, turn):
    def calls():
        for _ in range(turn):
            yield "b"
        raise RuntimeError("capture failed")

    failing = calls()
    contenders = {
        "a": Contender(lambda: "a", lambda _: judged(True)),
        "b": Contender(lambda: next(failing), lambda _: judged(True)),
    }
    clock = FakeClock({"a": [9.0, 2.0, 3.0], "b": [1.0]})
    case = measure(context, "case", contenders, baseline="a", clock=clock, rounds=(1, 2))
    assert [(m.name, m.timing.samples) for m in case.measurements] == [("a", [2.0, 3.0])]
    assert failures(context) == [("b case", "RuntimeError: capture failed")]


def test_without_a_baseline_that_matches_there_are_no_ratios(context):
    contenders = {
        "a": Contender(lambda: "a", lambda _: judged(False)),
        "b": Contender(lambda: "b", lambda _: judged(True)),
    }
    case = measure(context, "case", contenders, baseline="a", clock=FakeClock({"b": [1.0]}), rounds=(0, 1))
    assert [m.ratio for m in case.measurements] == [None, None]
    assert case.measurements[1].timing is not None


def test_outputs_are_compared_by_relative_l2_and_nan_never_passes():
    want = torch.tensor([3.0, 4.0])
    assert compare(torch.tensor([3.0, 4.5]), want, 0.11, "truth").relative_l2 == pytest.approx(0.1)
    assert compare(torch.tensor([3.0, 4.5]), want, 0.11, "truth").passed
    assert not compare(torch.tensor([3.0, 4.5]), want, 0.09, "truth").passed
    assert not compare(torch.tensor([float("nan"), 4.0]), want, 1e9, "truth").passed


def test_frames_are_held_to_a_psnr():
    want = torch.full((2, 4, 4, 3), 100, dtype=torch.uint8).numpy()
    got = want.copy()
    got[0] += 10  # mean squared error 50: 31.14 dB
    assert psnr_of(got, want) == pytest.approx(31.14, abs=0.01)
    assert compare_frames(got, want, 31.0, "truth").passed
    refused = compare_frames(got, want, 31.3, "truth")
    assert not refused.passed
    assert refused.relative_l2 > refused.limit  # the same verdict, said as an error


def test_figures_are_of_the_timed_calls_and_a_verified_process_may_be_timed_too(context):
    made = iter([3.2, 6.4, 1.6, 9.9])
    contender = Contender(
        verified_counts(lambda: next(made)), lambda _: judged(True), lambda timed: {"longest": max(timed)}
    )
    case = measure(
        context, "case", {"a": contender}, baseline="a", clock=Clock(torch.device("cpu"), seconds=float), rounds=(0, 3)
    )
    (only,) = case.measurements
    assert only.timing.samples == [3.2, 6.4, 1.6]  # three processes: the first was verified too
    assert only.figures == {"longest": 6.4}
