"""One explicit CUDA stream, and captured graphs on it, through cuda-python."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hero_rt.errors import EngineError


def _runtime() -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineError(
            f"TensorRT engines need cuda-python: {error}; pip install 'hero-runtime[tensorrt]' (or [tensorrt-rtx])"
        ) from error


class CudaStream:
    """A stream beside PyTorch's, ordered with it by events. Raises EngineError with CUDA's own words.

    handle: the stream as an integer, as TensorRT takes it.
    """

    def __init__(self, device: torch.device):
        self._device, self._rt = device, _runtime()
        self._current = torch.cuda.device(-1 if device.index is None else device.index)  # -1: as it is
        with self._current:
            self._stream = self._check(self._rt.cudaStreamCreateWithFlags(self._rt.cudaStreamNonBlocking))
            self._event = self._check(self._rt.cudaEventCreateWithFlags(self._rt.cudaEventDisableTiming))
        self.handle = int(self._stream)

    def __enter__(self) -> "CudaStream":
        """On this device; what PyTorch's stream was given before happens before what this one is given now."""
        self._current.__enter__()
        torch_stream = torch.cuda.current_stream(self._device).cuda_stream
        self._check(self._rt.cudaEventRecord(self._event, torch_stream))
        self._check(self._rt.cudaStreamWaitEvent(self._stream, self._event, 0))
        return self

    def __exit__(self, *_: object) -> None:
        """And what PyTorch's stream is given from now on happens after it: no synchronisation with the host."""
        torch_stream = torch.cuda.current_stream(self._device).cuda_stream
        self._check(self._rt.cudaEventRecord(self._event, self._stream))
        self._check(self._rt.cudaStreamWaitEvent(torch_stream, self._event, 0))
        self._current.__exit__(None, None, None)

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Equal shapes and dtypes, both dense and on the device."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        size = source.numel() * source.element_size()
        self._check(self._rt.cudaMemcpyAsync(target.data_ptr(), source.data_ptr(), size, kind, self._stream))

    def capture(self, work: Callable[[], None]) -> "CudaGraph":
        """What `work` puts on this stream, as a graph; `work` must have run before and must allocate nothing."""
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may allocate
        self._check(self._rt.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        finally:  # ended whatever happened, or the stream stays unusable
            ended = self._rt.cudaStreamEndCapture(self._stream)
        graph = self._check(ended)
        try:
            return CudaGraph(self, self._check(self._rt.cudaGraphInstantiate(graph, 0)))
        finally:
            self._check(self._rt.cudaGraphDestroy(graph))

    def launch(self, executable: Any) -> None:
        self._check(self._rt.cudaGraphLaunch(executable, self._stream))

    def destroy(self, executable: Any) -> None:
        self._check(self._rt.cudaGraphExecDestroy(executable))

    def synchronize(self) -> None:
        self._check(self._rt.cudaStreamSynchronize(self._stream))

    def close(self) -> None:
        self.synchronize()
        self._check(self._rt.cudaEventDestroy(self._event))
        self._check(self._rt.cudaStreamDestroy(self._stream))

    def _check(self, result: tuple[Any, ...]) -> Any:
        status, *values = result
        if status != self._rt.cudaError_t.cudaSuccess:
            _, text = self._rt.cudaGetErrorString(status)
            raise EngineError(f"CUDA on {self._device}: {text.decode()} ({status.name})")
        return values[0] if values else None


class CudaGraph:
    """Work that was captured; a launch repeats it on the buffers that it was captured with."""

    def __init__(self, stream: CudaStream, executable: Any):
        self._stream, self._executable = stream, executable

    def launch(self) -> None:
        self._stream.launch(self._executable)

    def close(self) -> None:
        self._stream.destroy(self._executable)
