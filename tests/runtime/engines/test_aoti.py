"""A package's calls on a GPU that is not there: which run, which are captured, and whose numbers come back."""

from contextlib import contextmanager

import pytest
import torch

from hero_rt.engines.aoti import GraphedCalls
from hero_rt.spec.boundary import TensorSpec

CPU = torch.device("cpu")


class FakeCuda:
    """torch.cuda with streams. A capture runs nothing; a replay runs what was captured, into its output."""

    def __init__(self, capturable: bool):
        self.capturable, self.capturing = capturable, None
        self.current = self.stream_now = FakeCuda.Stream(CPU)

    class Stream:
        def __init__(self, device):
            self.waits = []

        def wait_stream(self, other):
            self.waits.append(other)

    def current_stream(self):
        return self.current

    def set_stream(self, stream):
        self.stream_now = stream

    @contextmanager
    def stream(self, stream):
        before, self.stream_now = self.stream_now, stream
        yield
        self.stream_now = before

    class CUDAGraph:
        work = None

        def replay(self):
            self.work()

    @contextmanager
    def graph(self, graph, stream, capture_error_mode):
        self.stream_now, self.capturing = stream, graph
        yield
        self.capturing = None
        if not self.capturable:
            raise RuntimeError("capture invalidated")  # and the stream stays, as PyTorch leaves it
        self.stream_now = self.current


@pytest.mark.parametrize("capturable", [True, False])
def test_the_second_call_is_captured_and_every_call_returns_the_numbers_of_its_own_inputs(
    monkeypatch, caplog, capturable
):
    cuda = FakeCuda(capturable)
    monkeypatch.setattr("hero_rt.engines.aoti.torch.cuda", cuda)
    ran = []

    def package(x):
        out = torch.full_like(x, float("nan"))

        def work():
            out.copy_(2 * x)

        if cuda.capturing is not None:
            cuda.capturing.work = work
        else:
            ran.append(cuda.stream_now)
            work()
        return out

    calls = GraphedCalls("package.pt2", package, {"x": TensorSpec((3,), torch.float32)}, CPU)
    results = []
    for number in range(4):
        calls.copy_in({"x": torch.full((3,), float(number))})
        results += calls()
    assert [result.tolist() for result in results] == [[2.0 * number] * 3 for number in range(4)]
    assert len(ran) == (1 if capturable else 4)
    assert len({*ran}) == 1  # one stream, and
    assert ran[0] is not cuda.current  # of its own,
    assert cuda.current.waits[0] is ran[0]  # waited for,
    assert ran[0].waits[0] is cuda.current  # after waiting for what filled the buffers
    if not capturable:
        assert "package.pt2 runs without a CUDA graph: capture invalidated" in caplog.text
    assert cuda.stream_now is cuda.current
