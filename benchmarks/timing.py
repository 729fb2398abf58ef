"""Taking turns: A B A B, so that a clock that drifts or a burst of other load affects every contender alike."""

import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from benchmarks.schema import Timing

CALL = Callable[[], Any]
STEPS_A_TURN = 4  # on a GPU, as a loop runs them


class Clock(Protocol):
    """Times a turn of `calls` calls: the seconds of one, and what the last returned, to judge what was timed."""

    calls: int

    def __call__(self, call: CALL) -> tuple[float, Any]: ...


class CudaClock:
    """Device time between two events, after the second-level cache was flushed: data come from memory.

    With several calls in a row the host prepares one while the device computes another, as in a denoising loop.
    """

    def __init__(self, device: torch.device, calls: int = 1):
        self.calls = calls
        size = torch.cuda.get_device_properties(device).L2_cache_size
        self._flush = torch.empty(max(2 * size, 1 << 26), dtype=torch.uint8, device=device)

    def __call__(self, call: CALL) -> tuple[float, Any]:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        begin.record()
        out = self._turn(call)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / self.calls, out

    def _turn(self, call: CALL) -> Any:
        for _ in range(self.calls):
            out = call()
        return out


class GraphClock(CudaClock):
    """As CudaClock, of a turn as one CUDA graph: what Python takes to launch a kernel is in no time."""

    def __init__(self, device: torch.device, calls: int = 1):
        super().__init__(device, calls)
        self._graphs: weakref.WeakKeyDictionary[CALL, tuple[torch.cuda.CUDAGraph, Any]] = weakref.WeakKeyDictionary()

    def __call__(self, call: CALL) -> tuple[float, Any]:
        """`call` has run before and waits for nothing; what it allocates lives until it is forgotten."""
        if call not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = super()._turn(call)
            self._graphs[call] = graph, out
        return super().__call__(call)

    def _turn(self, call: CALL) -> Any:
        graph, out = self._graphs[call]
        graph.replay()
        return out  # the memory that the replay wrote


class HostClock:
    """Time of work that host and device share, with the device idle before and after."""

    calls = 1

    def __init__(self, device: torch.device):
        self._device = device

    def __call__(self, call: CALL) -> tuple[float, Any]:
        synchronize(self._device)
        started = time.perf_counter()
        out = call()
        synchronize(self._device)
        return time.perf_counter() - started, out


class OwnClock:
    """Of a call that timed itself, as a process does that leaves out its own start; `seconds` reads its outcome."""

    calls = 1

    def __init__(self, seconds: Callable[[Any], float]):
        self._seconds = seconds

    def __call__(self, call: CALL) -> tuple[float, Any]:
        out = call()
        return self._seconds(out), out


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_clock(device: torch.device) -> Clock:
    """For denoising steps."""
    return CudaClock(device, STEPS_A_TURN) if device.type == "cuda" else HostClock(device)


def kernel_clock(device: torch.device, calls: int) -> Clock:
    """For kernels of microseconds, `calls` in one graph: what the events and a graph's launch take is shared."""
    return GraphClock(device, calls) if device.type == "cuda" else HostClock(device)


@dataclass(frozen=True)
class Timed:
    """The timing of a call's turns, and what the last of them returned."""

    timing: Timing
    last: Any


def interleave(
    calls: Mapping[str, CALL], clock: Clock, warmup: int, repeats: int, attempt: Callable[[str, CALL], Any]
) -> dict[str, Timed]:
    """Each call once a round, `warmup` rounds unrecorded, then `repeats` recorded.

    attempt: runs one turn, under the call's name; a call for which it returns None takes no further turn and is left
    out.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    last: dict[str, Any] = {}
    for turn in range(warmup + repeats):
        for name in list(samples):
            seen = attempt(name, partial(clock, calls[name]))
            if seen is None:
                del samples[name]
                continue
            seconds, last[name] = seen
            if turn >= warmup:
                samples[name].append(seconds)
    return {name: Timed(summarise(values, warmup, clock.calls), last[name]) for name, values in samples.items()}


def summarise(samples: list[float], warmup: int, calls: int = 1) -> Timing:
    """Quartiles include the ends (the samples are all there is, not a draw from more)."""
    several = len(samples) > 1
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive") if several else samples * 3
    rounded = [round(value, 9) for value in samples]
    spread = {"median": median, "lower_quartile": lower, "upper_quartile": upper}
    return Timing(warmup=warmup, repeats=len(samples), calls=calls, samples=rounded, **spread)
