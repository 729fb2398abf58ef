"""Taking turns: A B A B, so that a clock that drifts or a burst of other load affects every contender alike."""

import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from benchmarks.schema import Timing

CALL = Callable[[], Any]
STEPS_A_TURN = 4  # on a GPU, as a loop runs them


class Clock:
    """Times a turn of `calls` calls: the seconds of one, and what the last returned, to judge what was timed.

    This one is for work that host and device share, with the device idle before and after. `seconds` reads the time
    from what a call returned, where that timed itself, as a process does that leaves out its own start.
    """

    def __init__(self, device: torch.device, calls: int = 1, seconds: Callable[[Any], float] | None = None):
        self.device, self.calls, self._seconds = device, calls, seconds

    def __call__(self, call: CALL) -> tuple[float, Any]:
        synchronize(self.device)
        started = time.perf_counter()
        out = call()
        synchronize(self.device)
        return self._seconds(out) if self._seconds else time.perf_counter() - started, out


class CudaClock(Clock):
    """Device time between two events, after the second-level cache was flushed: data come from memory.

    With several calls in a row the host prepares one while the device computes another, as in a denoising loop.
    """

    def __init__(self, device: torch.device, calls: int = 1):
        super().__init__(device, calls)
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


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_clock(device: torch.device, calls: int = STEPS_A_TURN, graph: bool = False) -> Clock:
    """For denoising steps. `graph`: for kernels of microseconds, which share what the events and a launch take."""
    if device.type != "cuda":
        return Clock(device)
    return GraphClock(device, calls) if graph else CudaClock(device, calls)


def interleave(
    calls: Mapping[str, CALL], clock: Clock, warmup: int, repeats: int, attempt: Callable[[str, CALL], Any]
) -> dict[str, tuple[Timing, Any]]:
    """Each call once a round, `warmup` rounds unrecorded, then `repeats` recorded: the timing, and the last result.

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
    return {name: (summarise(values, warmup, clock.calls), last[name]) for name, values in samples.items()}


def summarise(samples: list[float], warmup: int, calls: int = 1) -> Timing:
    """Quartiles include the ends (the samples are all there is, not a draw from more)."""
    several = len(samples) > 1
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive") if several else samples * 3
    spread = {"median": median, "lower_quartile": lower, "upper_quartile": upper}
    samples = [round(value, 9) for value in samples]
    return Timing(warmup=warmup, repeats=len(samples), calls=calls, samples=samples, **spread)
