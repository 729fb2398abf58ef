"""A GPU that is not there: torch.cuda and a TensorRT module that hold their callers to the rules.

Work put on a stream is done when another stream or the host waits for it, and not before: what nobody waits for never
happens. Everything else of the TensorRT module is the real tensorrt_rtx.
"""

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorrt_rtx as real
import torch
from torch.overrides import TorchFunctionMode


class FakeCuda:
    """torch.cuda over host memory: streams, captures and replays.

    Copies inside a stream's block wait in its queue. PyTorch's own stream does its work at once.
    """

    def __init__(self, capturable: bool = True):
        self.streams: list[FakeStream] = []
        self.own = self.current = self.Stream()
        self.capturing: list[Callable[[], object]] | None = None
        self.calls: list[str] = []
        self.capturable = capturable

    def Stream(self, device: Any = None) -> "FakeStream":
        self.streams.append(FakeStream(self, len(self.streams) + 1))
        return self.streams[-1]

    def current_stream(self, device: Any = None) -> "FakeStream":
        return self.current

    @contextmanager
    def stream(self, stream: "FakeStream") -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def graph_pool_handle(self) -> tuple[int, int]:
        self.calls.append("pool")
        return (0, 1)

    @contextmanager
    def graph(
        self, cuda_graph: "FakeGraph", pool: Any, stream: "FakeStream", capture_error_mode: str
    ) -> Iterator[None]:
        assert (pool, capture_error_mode, self.capturing) == ((0, 1), "thread_local", None)
        before, self.current, self.capturing = self.current, stream, []
        self.calls.append("begin-capture")
        yield
        cuda_graph.work, self.capturing = self.capturing, None
        if not self.capturable:
            raise RuntimeError("capture invalidated")  # and the stream stays, as PyTorch leaves it
        self.calls.append("end-capture")
        self.current = before

    def CUDAGraph(self) -> "FakeGraph":
        return FakeGraph(self)

    def put(self, stream: "FakeStream", work: Callable[[], object]) -> None:
        (stream.queue if self.capturing is None else self.capturing).append(work)


class FakeStream:
    def __init__(self, cuda: FakeCuda, handle: int):
        self.cuda, self.cuda_stream = cuda, handle
        self.queue: list[Callable[[], object]] = []

    def wait_stream(self, other: "FakeStream") -> None:
        assert other is not self, "a stream waits for itself"
        assert self.cuda.capturing is None
        other.drain()
        self.cuda.calls.append("own waits" if self is not self.cuda.own else "torch waits")

    def synchronize(self) -> None:
        assert self.cuda.capturing is None
        self.drain()

    def drain(self) -> None:
        while self.queue:
            self.queue.pop(0)()


class FakeGraph:
    work: Sequence[Callable[[], object]] = ()

    def __init__(self, cuda: FakeCuda):
        self.cuda = cuda

    def replay(self) -> None:
        self.cuda.calls.append("replay")
        self.cuda.current.queue += self.work


class QueuedCopies(TorchFunctionMode):
    """Puts copies into the queue of the stream that is current."""

    def __init__(self, cuda: FakeCuda):
        super().__init__()
        self.cuda = cuda

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.copy_ and self.cuda.current is not self.cuda.own:
            target, source = args
            assert target.shape == source.shape
            assert target.dtype == source.dtype
            self.cuda.calls.append("copy")
            self.cuda.put(self.cuda.current, lambda: func(target, source))
            return target
        return func(*args, **(kwargs or {}))


class ExecutionContext:
    """y = 2 x + c, x and y float32, c float16, all [2, 3], or [2 to 4, 3] of a plan whose rows are free."""

    def __init__(self, engine: "Engine"):
        self._engine, self._addresses = engine, {}
        self._memory = 0
        self._shapes = {name: shape for name, (_, shape, _) in engine.tensors.items()}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if not 2 <= shape[0] <= 4:
            return False
        self._shapes[name] = self._shapes["y"] = shape
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory
        assert size >= self._engine.device_memory_size_v2
        self._memory = memory

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert name not in self._addresses, "bindings are set once"
        self._addresses[name] = memory
        return name in self._engine.tensors

    def execute_async_v3(self, stream_handle: int) -> bool:
        cuda = self._engine.cuda
        assert stream_handle == cuda.current.cuda_stream != cuda.own.cuda_stream
        assert self._memory, "no scratch"
        assert self._addresses.keys() == self._engine.tensors.keys()
        assert all(size > 0 for shape in self._shapes.values() for size in shape), "a shape is not set"
        cuda.calls.append("enqueue")
        if self._engine.failing:
            self._engine.logger.log(real.ILogger.ERROR, "out of luck\n")
            return False
        cuda.put(cuda.current, self._compute)
        return True

    def _compute(self) -> None:
        def at(name: str, kind: Any, dtype: Any) -> np.ndarray:
            return np.frombuffer((kind * math.prod(self._shapes[name])).from_address(self._addresses[name]), dtype)

        at("y", ctypes.c_float, np.float32)[:] = 2 * at("x", ctypes.c_float, np.float32) + at(
            "c", ctypes.c_uint16, np.float16
        )


class Engine:
    """Its tensors by name: mode, shape, type."""

    device_memory_size_v2 = 1000

    def __init__(self, logger: Any, cuda: FakeCuda, failing: bool, shape: tuple[int, ...], contexts: int):
        self.logger, self.cuda, self.failing, self.contexts = logger, cuda, failing, contexts
        f32, f16 = real.DataType.FLOAT, real.DataType.HALF
        into, out = real.TensorIOMode.INPUT, real.TensorIOMode.OUTPUT
        self.tensors = {"x": (into, shape, f32), "c": (into, shape, f16), "y": (out, shape, f32)}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.tensors[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][1]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.tensors[name][2]

    def create_execution_context(self, strategy: Any) -> ExecutionContext | None:
        assert strategy == real.ExecutionContextAllocationStrategy.USER_MANAGED
        self.contexts -= 1
        return ExecutionContext(self) if self.contexts >= 0 else None  # None: TensorRT's answer where memory is short


def fake_tensorrt(cuda: FakeCuda, failing: bool = False, shape: tuple[int, ...] = (2, 3), contexts: int = 100) -> Any:
    """A module like tensorrt_rtx, whose Runtime opens the bytes b"a plan"."""

    class Runtime:
        def __init__(self, logger: Any):
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
            if serialized_engine != b"a plan":
                self.logger.log(real.ILogger.ERROR, "Serialization assertion failed\n")
                return None
            return Engine(self.logger, cuda, failing, shape, contexts)

    shared = ("ILogger", "DataType", "TensorIOMode", "ExecutionContextAllocationStrategy")
    return SimpleNamespace(
        __name__="tensorrt_rtx",
        __version__="1.7.1.116",
        Runtime=Runtime,
        **{name: getattr(real, name) for name in shared},
    )


STANDS_FOR = {"Runtime": real.Runtime, "Engine": real.ICudaEngine, "ExecutionContext": real.IExecutionContext}
