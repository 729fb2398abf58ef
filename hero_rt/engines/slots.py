"""Holds the buffers of bindings on a GPU, each with its work and its captured CUDA graph."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hero_rt.engines.engine import Binding, Engine
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import Specs

_log = logging.getLogger(__name__)
_one_capture = threading.Lock()  # PyTorch: one may be underway in a process


class OutOfMemoryError(EngineError):
    """Raised when the GPU's memory holds no further slot."""


class Slot(ABC):
    """Holds one set of buffers by name. Its bindings run in turn; usually there is one.

    The first run loads kernels and allocates. The second run is captured as a CUDA graph, which later runs replay. If
    capturing fails, every run is like the first: slower, not wrong.
    """

    def __init__(self, name: str, specs: Specs, workspace: Workspace):
        self._name, self._workspace = name, workspace
        self.buffers = {
            name: torch.zeros(spec.shape, dtype=spec.dtype, device=workspace.device) for name, spec in specs.items()
        }
        self.bindings: list[SlotBinding] = []
        self._loaded: SlotBinding | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[Tensor, ...] = ()
        self._runs = 0

    @abstractmethod
    def enqueue(self) -> tuple[Tensor, ...]:
        """Put one run on PyTorch's current stream. Return its outputs; the next run may overwrite them."""

    def run(self, binding: "SlotBinding", inputs: Mapping[str, Tensor], results: Iterable[Tensor]) -> None:
        """Run with the binding's constants, and copy the outputs into `results`."""
        with self._workspace.on_stream():
            self.load(binding)
            self._copy_in(inputs)
            self._runs += 1
            if self._runs == 2:
                self._capture()
            if self._graph is None:
                self._outputs = self.enqueue()
            else:
                self._graph.replay()
            # on this stream: the next run, perhaps of a thread with another current stream, overwrites the outputs
            for result, output in zip(results, self._outputs, strict=True):
                result.copy_(output)

    def join(self, binding: "SlotBinding") -> None:
        """Add a binding. Constants that exist only in the buffers are copied first; the new ones overwrite them."""
        if self._loaded is not None and self._loaded in self.bindings:
            self._loaded.constants = {name: tensor.clone() for name, tensor in self._loaded.constants.items()}
        self.bindings.append(binding)

    def load(self, binding: "SlotBinding") -> None:
        """Put the binding's constants into the buffers, unless they are there."""
        if self._loaded is binding:
            return
        self._copy_in(binding.constants)
        self._loaded = binding
        if self.bindings == [binding]:  # the buffers hold the only copy from now on
            binding.constants = {name: self.buffers[name] for name in binding.constants}

    def close(self) -> None:
        """Release graph and buffers."""
        self._graph, self._outputs, self.buffers = None, (), {}

    def _copy_in(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self.buffers[name].copy_(tensor)

    def _capture(self) -> None:
        """Capture the CUDA graph. Capturing records the work; `replay()` runs it."""
        graph, shared = torch.cuda.CUDAGraph(), self._workspace
        try:
            # other threads may allocate meanwhile
            with (
                _one_capture,
                torch.cuda.graph(graph, shared.graph_pool, shared.stream, capture_error_mode="thread_local"),
            ):
                outputs = self.enqueue()
        except (RuntimeError, EngineError) as error:
            _log.warning("%s runs without a CUDA graph: %s", self._name, error)
            return
        self._graph, self._outputs = graph, outputs


class SlotBinding(Binding):
    """Holds one caller's constants on a slot. Closing it removes it from the slot, which a later binding then uses.

    After `Slot.load` the slot's buffers hold the constants. A slot with several bindings also keeps a copy in each.
    """

    def __init__(self, constants: Mapping[str, Tensor], slot: Slot):
        super().__init__(constants, lambda: slot.bindings.remove(self))
        self.slot = slot


class SlotEngine(Engine):
    """An engine on a GPU, with its slots. Slots are kept for later bindings.

    A binding has a slot to itself, so a run copies no constants. If memory holds no further slot, bindings share one.
    Each then keeps its constants beside the slot. They are copied in after another binding ran.

    make_slot: raises OutOfMemoryError, or PyTorch's, if memory is short.
    """

    def __init__(self, name: str, inputs: Specs, outputs: Specs, workspace: Workspace, make_slot: Callable[[], Slot]):
        super().__init__(name, inputs, outputs, workspace.device)
        self._workspace, self._make_slot = workspace, make_slot
        self._slots = [self._new_slot()]  # now: an engine that does not fit should fail on opening

    def _bind(self, constants: Mapping[str, Tensor]) -> SlotBinding:
        with self._workspace.lock:
            binding = SlotBinding(constants, self._choose())
            binding.slot.join(binding)
            if constants:
                with self._workspace.on_stream():
                    binding.slot.load(binding)
        return binding

    def _run(self, binding: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        results = self._new_outputs()
        with self._workspace.lock:
            binding.slot.run(binding, inputs, results.values())
        return results

    def _close(self) -> None:
        self._workspace.stream.synchronize()
        while self._slots:
            self._slots.pop().close()

    def _choose(self) -> Slot:
        for slot in self._slots:
            if not slot.bindings:
                return slot
        try:
            self._slots.append(self._new_slot())
        except (torch.OutOfMemoryError, OutOfMemoryError) as error:
            _log.warning("%s: windows share buffers, constants are copied at each step (%s)", self.name, error)
            return min(self._slots, key=lambda slot: len(slot.bindings))
        return self._slots[-1]

    def _new_slot(self) -> Slot:
        with self._workspace.on_stream():  # this selects the device too
            return self._make_slot()
