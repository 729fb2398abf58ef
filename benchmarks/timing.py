"""Taking turns: A B A B, so that a clock that drifts or a neighbour that wakes up meets every contender alike."""

import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import torch

from benchmarks.schema import Timing

CALL = Callable[[], Any]
Reading = Literal["wall", "cpu-time"]
# the process's CPU time is what one thread takes where others use the machine too
READINGS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu-time": time.process_time}


class Clock(Protocol):
    """Times one call, in seconds."""

    def __call__(self, call: CALL) -> float: ...


class CudaClock:
    """Device time between two events, after the second-level cache was flushed: data come from memory."""

    def __init__(self, device: torch.device):
        size = torch.cuda.get_device_properties(device).L2_cache_size
        self._flush = torch.empty(max(2 * size, 1 << 26), dtype=torch.uint8, device=device)

    def __call__(self, call: CALL) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


class GraphClock(CudaClock):
    """As CudaClock, of the call as a CUDA graph: what Python takes to launch a kernel is in no time."""

    def __init__(self, device: torch.device):
        super().__init__(device)
        self._graphs: weakref.WeakKeyDictionary[CALL, torch.cuda.CUDAGraph] = weakref.WeakKeyDictionary()

    def __call__(self, call: CALL) -> float:
        """`call` has run before and waits for nothing; what it allocates lives until it is forgotten."""
        if call not in self._graphs:
            self._graphs[call] = graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                call()
        return super().__call__(self._graphs[call].replay)


class HostClock:
    """Time of work that host and device share, with the device idle before and after."""

    def __init__(self, device: torch.device, reading: Reading = "wall"):
        self._device, self._now = device, READINGS[reading]

    def __call__(self, call: CALL) -> float:
        synchronize(self._device)
        started = self._now()
        call()
        synchronize(self._device)
        return self._now() - started


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_clock(device: torch.device, reading: Reading = "wall") -> Clock:
    """For single steps."""
    return CudaClock(device) if device.type == "cuda" else HostClock(device, reading)


def kernel_clock(device: torch.device, reading: Reading = "wall") -> Clock:
    """For single kernels."""
    return GraphClock(device) if device.type == "cuda" else HostClock(device, reading)


def interleave(calls: Mapping[str, CALL], clock: Clock, warmup: int, repeats: int) -> dict[str, Timing]:
    """Each call once a round, `warmup` rounds unrecorded, then `repeats` recorded."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            seconds = clock(call)
            if turn >= warmup:
                samples[name].append(seconds)
    return {name: summarise(values, warmup) for name, values in samples.items()}


def summarise(samples: list[float], warmup: int) -> Timing:
    """Quartiles include the ends (the samples are all there is, not a draw from more)."""
    lower, median, upper = (
        statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else [samples[0]] * 3
    )
    return Timing(
        warmup=warmup,
        repeats=len(samples),
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
        samples=[round(value, 9) for value in samples],
    )
