"""Buffers on a GPU that bindings keep their constants in, each with its execution context and captured graph."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from hero_rt.engines.engine import Binding
from hero_rt.errors import EngineError

_log = logging.getLogger(__name__)


class Slot(ABC):
    """One set of buffers by name. Its bindings run in turn; usually there is one."""

    def __init__(self, buffers: dict[str, Tensor]):
        self.buffers = buffers
        self.bindings: list[SlotBinding] = []
        self._loaded: SlotBinding | None = None

    @abstractmethod
    def copy_in(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy `tensors` into their buffers."""

    @abstractmethod
    def close(self) -> None:
        """Release buffers, context and graph."""

    def join(self, binding: "SlotBinding") -> None:
        """Add a binding. One that is alone has its constants in the buffers; it gets a copy before another writes."""
        if self._loaded is not None and self._loaded in self.bindings:
            self._loaded.constants = {name: tensor.clone() for name, tensor in self._loaded.constants.items()}
        self.bindings.append(binding)

    def load(self, binding: "SlotBinding") -> None:
        """Put the binding's constants into the buffers, unless they are there."""
        if self._loaded is binding:
            return
        self.copy_in(binding.constants)
        self._loaded = binding
        if self.bindings == [binding]:  # the buffers hold the only copy from now on
            binding.constants = {name: self.buffers[name] for name in binding.constants}


_S = TypeVar("_S", bound=Slot)


class SlotBinding(Binding, Generic[_S]):
    """Constants in the buffers of a slot."""

    def __init__(self, constants: Mapping[str, Tensor], slot: _S, release: Callable[["SlotBinding[Any]"], None]):
        super().__init__(constants, lambda: release(self))
        self.slot = slot


class Slots(Generic[_S]):
    """The slots of one engine, kept for later bindings. The engine's lock is held around each call.

    A binding has a slot to itself, so a run copies no constants. Where memory holds no further slot, bindings share
    one: each keeps its constants beside it, and they are copied in where another binding ran before.
    """

    def __init__(self, engine: str, make: Callable[[], _S]):
        self._engine, self._make = engine, make
        self._all: list[_S] = [make()]  # now: an engine that does not fit should fail on opening

    def bind(self, constants: Mapping[str, Tensor]) -> SlotBinding[_S]:
        """Give a binding its slot. `Slot.load` puts the constants in place."""
        binding = SlotBinding(constants, self._choose(), self._release)
        binding.slot.join(binding)
        return binding

    def close(self) -> None:
        """Close every slot, used or not."""
        while self._all:
            self._all.pop().close()

    def _choose(self) -> _S:
        for slot in self._all:
            if not slot.bindings:
                return slot
        try:
            self._all.append(self._make())
        except (torch.OutOfMemoryError, EngineError) as error:
            _log.warning("%s: windows share buffers, constants are copied at each step (%s)", self._engine, error)
            return min(self._all, key=lambda slot: len(slot.bindings))
        return self._all[-1]

    @staticmethod
    def _release(binding: SlotBinding[Any]) -> None:
        binding.slot.bindings.remove(binding)
