"""Reads TensorRT's log during a build: errors, layers, memory. It also reports progress, and can stop the build."""

import re
import sys
from typing import Any

from hero_export.builders.builder import Progress

_LAYER = re.compile(r"^Layer\((?P<kind>[^)]*)\): (?P<name>.*?), Tactic: ", re.MULTILINE)
_MEMORY = {
    "activation_bytes": re.compile(r"Total Activation Memory: (\d+) bytes"),
    "device_weights_bytes": re.compile(r"Total Weights Memory: (\d+) bytes"),
}


def make_logger(trt: Any, verbose: bool = False) -> Any:
    """Make an ILogger that keeps errors, warnings, layers and memory of the engine. verbose: print everything too."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.layers: list[str] = []  # "kind: name" of each layer of the engine, which fuses those of the network
            self.memory: dict[str, int] = {}

        def log(self, severity: Any, message: str) -> None:
            message = message.strip()
            if verbose:
                print(f"[{str(severity).rpartition('.')[2]}] {message}", file=sys.stderr)  # noqa: T201
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(message)
            else:
                self.layers += [f"{layer['kind']}: {layer['name']}" for layer in _LAYER.finditer(message)]
                for name, pattern in _MEMORY.items():
                    if found := pattern.search(message):
                        self.memory[name] = int(found[1])

    return Logger()


def make_monitor(trt: Any, progress: Progress) -> Any:
    """Make an IProgressMonitor that reports each step. It stops the build when `progress` returns False."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._totals[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self._totals.get(phase_name, 0))

        def _tell(self, phase: str, done: int) -> None:
            self.stopped |= not progress(phase, done, self._totals.get(phase, done))

    return Monitor()
