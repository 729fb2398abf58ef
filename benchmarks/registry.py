"""Every suite, in the order of what it tells: the one list that the commands read."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from benchmarks.context import Context
from benchmarks.schema import Case
from hero_rt.errors import UsageError


class SuiteModule(Protocol):
    def run(self, context: Context) -> Iterator[Case]:
        """Yield each case when it is measured. What cannot run here goes to `context.unavailable`."""


@dataclass(frozen=True)
class Suite:
    name: str
    summary: str
    module: str  # imported when it runs

    def load(self) -> SuiteModule:
        return importlib.import_module(self.module)


SUITES = (
    Suite(
        "kernels",
        "the fused temporal attention against eager, compiled and a copy",
        "benchmarks.kernels.temporal_attention_im3",
    ),
    Suite("unet-step", "one denoising step, every way to run it", "benchmarks.suites.unet_step"),
    Suite(
        "end-to-end",
        "one window, frames to frames: latency to the first, phases, memory",
        "benchmarks.suites.end_to_end",
    ),
    Suite("caching", "what the cache saves: nothing, raw features or projections kept", "benchmarks.suites.caching"),
    Suite("long-video", "cost and memory against the number of frames", "benchmarks.suites.long_video"),
    Suite("callers", "1, 2 and 4 sessions at once on one outpainter", "benchmarks.suites.callers"),
    Suite("cold-start", "in a fresh process, from opening engines to the first window", "benchmarks.suites.cold_start"),
)


def find_suite(name: str) -> Suite:
    """Raises UsageError naming the known ones."""
    for suite in SUITES:
        if suite.name == name:
            return suite
    raise UsageError(f"unknown suite {name!r}; known: {', '.join(suite.name for suite in SUITES)}")
