"""A GPU that is not there: CUDA's runtime and a TensorRT module that hold their callers to the rules.

Work put on a stream is done when another stream or the host waits for it, and not before: what nobody waits for never
happens. Everything else of the TensorRT module is the real tensorrt_rtx.
"""

import ctypes
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorrt_rtx as real

TORCH_STREAM = 1


class FakeCuda:
    """cuda.bindings.runtime: streams, events, copies and graphs over host memory."""

    cudaStreamNonBlocking, cudaEventDisableTiming = 1, 2
    cudaError_t = SimpleNamespace(cudaSuccess=SimpleNamespace(name="cudaSuccess", value=0))
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyDeviceToDevice="device-to-device")
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread-local")

    def __init__(self, capturable: bool = True):
        self.queues: dict[int, list[Callable[[], None]]] = {TORCH_STREAM: []}
        self.events: dict[int, tuple[int, int] | None] = {}  # event -> stream, work before it
        self.capturing: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.calls: list[str] = []
        self.capturable = capturable
        self._next = 100

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _done(self, name: str, *values: Any) -> tuple[Any, ...]:
        self.calls.append(name)
        return (self.cudaError_t.cudaSuccess, *values)

    def put(self, stream: int, work: Callable[[], None]) -> None:
        assert stream in self.queues, f"stream {stream} does not exist"
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            self.queues[stream].append(work)

    def _drain(self, stream: int, count: int) -> None:
        for work in self.queues[stream][:count]:
            work()
        self.queues[stream][:count] = []
        self.events = {  # what is done need not be waited for again
            e: (s, max(n - count, 0)) if s == stream else (s, n) for e, (s, n) in self.events.items()
        }

    def cudaGetErrorString(self, status):
        return self.cudaError_t.cudaSuccess, b"operation not permitted when stream is capturing"

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.cudaStreamNonBlocking
        stream = self._new()
        self.queues[stream] = []
        return self._done("stream", stream)

    def cudaStreamDestroy(self, stream):
        assert self.queues.pop(stream) == [], "destroyed with work on it"
        return self._done("destroy-stream")

    def cudaStreamSynchronize(self, stream):
        assert self.capturing is None
        self._drain(stream, len(self.queues[stream]))
        return self._done("synchronize")

    def cudaEventCreateWithFlags(self, flags):
        assert flags == self.cudaEventDisableTiming
        event = self._new()
        self.events[event] = (TORCH_STREAM, 0)
        return self._done("event", event)

    def cudaEventDestroy(self, event):
        del self.events[event]
        return self._done("destroy-event")

    def cudaEventRecord(self, event, stream):
        self.events[event] = (stream, len(self.queues[stream]))
        return self._done(f"record {'torch' if stream == TORCH_STREAM else 'own'}")

    def cudaStreamWaitEvent(self, stream, event, flags):
        assert flags == 0
        source, count = self.events[event]
        assert source != stream, "a stream waits for itself"
        self._drain(source, count)
        return self._done(f"wait {'torch' if stream == TORCH_STREAM else 'own'}")

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        assert kind == "device-to-device"
        self.put(stream, lambda: ctypes.memmove(target, source, size))
        return self._done("copy")

    def cudaStreamBeginCapture(self, stream, mode):
        assert mode == "thread-local"
        assert self.capturing is None
        self.capturing = []
        return self._done("begin-capture")

    def cudaStreamEndCapture(self, stream):
        captured, self.capturing = self.capturing, None
        if not self.capturable:
            return (SimpleNamespace(name="cudaErrorStreamCaptureInvalidated", value=901), None)
        graph = self._new()
        self.graphs[graph] = captured
        return self._done("end-capture", graph)

    def cudaGraphInstantiate(self, graph, flags):
        assert flags == 0
        executable = self._new()
        self.graphs[executable] = self.graphs[graph]
        return self._done("instantiate", executable)

    def cudaGraphDestroy(self, graph):
        del self.graphs[graph]
        return self._done("destroy-graph")

    def cudaGraphExecDestroy(self, executable):
        del self.graphs[executable]
        return self._done("destroy-executable")

    def cudaGraphLaunch(self, executable, stream):
        self.queues[stream] += self.graphs[executable]
        return self._done("launch")


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
        assert stream_handle != TORCH_STREAM
        assert self._memory, "no scratch"
        assert self._addresses.keys() == self._engine.tensors.keys()
        assert all(size > 0 for shape in self._shapes.values() for size in shape), "a shape is not set"
        self._engine.cuda.calls.append("enqueue")
        if self._engine.failing:
            self._engine.logger.log(real.ILogger.ERROR, "out of luck\n")
            return False
        self._engine.cuda.put(stream_handle, self._compute)
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
