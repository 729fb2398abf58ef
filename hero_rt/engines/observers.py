"""Observers of engine runs: a Chrome trace, and NVTX ranges for Nsight Systems."""

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hero_rt.atomic import write_atomically
from hero_rt.closable import Closable
from hero_rt.engines.engine import Binding, Engine, Observer


class ChromeTrace(Closable, Observer):
    """Writes every engine run as a Chrome trace (chrome://tracing, Perfetto) when it is closed.

    Times are the host's. On a GPU they measure the queueing of the work.
    """

    def __init__(self, path: Path):
        self._path = path
        self._events: list[dict[str, Any]] = []
        self._begun = threading.local()

    def before_run(self, engine: Engine, binding: Binding, inputs: Mapping[str, Tensor]) -> None:
        self._begun.at = time.perf_counter_ns()

    def after_run(
        self, engine: Engine, binding: Binding, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        self._events.append(
            {
                "name": engine.submodule,
                "cat": "engine",
                "ph": "X",
                "ts": self._begun.at / 1000,
                "dur": (time.perf_counter_ns() - self._begun.at) / 1000,
                "pid": os.getpid(),
                "tid": threading.get_native_id(),
                "args": {"profile": str(engine.profile), "engine": engine.name},
            }
        )

    def close(self) -> None:
        write_atomically(self._path, json.dumps({"traceEvents": self._events}).encode())


class NvtxRanges(Observer):
    """Marks every engine run as an NVTX range, which Nsight Systems shows above the run's kernels."""

    def before_run(self, engine: Engine, binding: Binding, inputs: Mapping[str, Tensor]) -> None:
        torch.cuda.nvtx.range_push(f"{engine.submodule} {engine.profile}")

    def after_run(
        self, engine: Engine, binding: Binding, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> None:
        torch.cuda.nvtx.range_pop()
