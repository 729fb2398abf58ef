"""Times contenders in turns (A B A B), so drifting clocks and other load affect all of them."""

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
    """Times a turn of `calls` calls. Returns the seconds of one call, and the last result.

    The device is idle before and after a turn. `seconds` reads the time from a result that timed itself, such as a
    process that excludes its start.
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
    """Times between two CUDA events, after a flush of the second-level cache.

    With several calls in a row, the host prepares one while the device computes another, as in a denoising loop.
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
    """As CudaClock, but runs a turn as one CUDA graph, so the time excludes launches from Python."""

    def __init__(self, device: torch.device, calls: int = 1):
        super().__init__(device, calls)
        self._graphs: weakref.WeakKeyDictionary[CALL, tuple[torch.cuda.CUDAGraph, Any]] = weakref.WeakKeyDictionary()

    def __call__(self, call: CALL) -> tuple[float, Any]:
        """Capture and time `call`, which has run before and does not synchronise."""
        if call not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = super()._turn(call)
            self._graphs[call] = graph, out
        return super().__call__(call)

    def _turn(self, call: CALL) -> Any:
        graph, out = self._graphs[call]
        graph.replay()
        return out  # in memory that the replay wrote


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_clock(device: torch.device, calls: int = STEPS_A_TURN, graph: bool = False) -> Clock:
    """Return the clock of a device. `graph` suits kernels of microseconds."""
    if device.type != "cuda":
        return Clock(device)
    return GraphClock(device, calls) if graph else CudaClock(device, calls)


def interleave(
    calls: Mapping[str, CALL], clock: Clock, warmup: int, repeats: int, attempt: Callable[[str, CALL], Any]
) -> dict[str, tuple[Timing, Any]]:
    """Run each call once per round: `warmup` rounds, then `repeats` timed ones. Return timing and last result.

    attempt: runs one turn under the call's name. A call for which it returns None is left out.
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
    """Return median and quartiles. Quartiles include the ends, as for a whole population."""
    several = len(samples) > 1
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive") if several else samples * 3
    spread = {"median": median, "lower_quartile": lower, "upper_quartile": upper}
    samples = [round(value, 9) for value in samples]
    return Timing(warmup=warmup, repeats=len(samples), calls=calls, samples=samples, **spread)
