"""Taking turns: A B A B, so that a clock that drifts or a neighbour that wakes up meets every contender alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

from benchmarks.schema import Timing

CALL = Callable[[], Any]


class Clock(Protocol):
    """Times one call, in seconds."""

    def __call__(self, call: CALL) -> float: ...


def cpu_clock(call: CALL) -> float:
    """Wall time of a call that has finished when it returns."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


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


class WallClock:
    """Wall time of work that host and device share, with the device idle before and after."""

    def __init__(self, device: torch.device):
        self._device = device

    def __call__(self, call: CALL) -> float:
        synchronize(self._device)
        started = time.perf_counter()
        call()
        synchronize(self._device)
        return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_clock(device: torch.device) -> Clock:
    """For single kernels and steps."""
    return CudaClock(device) if device.type == "cuda" else cpu_clock


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
