"""Gives sessions turns on devices, one unit of work at a time, in order of arrival."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from hero_rt.engines.engine import EngineSet
from hero_rt.errors import Cancelled, UsageError

_T = TypeVar("_T")
_R = TypeVar("_R")


class Device:
    """An engine set and the queue of units that wait for it. One unit runs at a time.

    A unit is short: one window prepared, one step, or one window decoded. So all sessions in the queue advance. A unit
    must not request another turn on its own device.
    """

    def __init__(self, engines: EngineSet):
        self.engines = engines
        self.sessions = 0
        self._waiting: list[object] = []  # the first one has the turn
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, cancelled: threading.Event) -> Iterator[EngineSet]:
        """Wait for a turn. Raises Cancelled if the event was set meanwhile."""
        ticket = object()
        self._waiting.append(ticket)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting[0] is ticket)
            if cancelled.is_set():
                raise Cancelled("the session was cancelled")
            yield self.engines
        finally:  # of an interrupted wait too: the turn goes to the next in line
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()


class Schedule:
    """The devices of one outpainter. They hold the same checkpoint in the same format."""

    def __init__(self, engine_sets: Sequence[EngineSet]):
        if not engine_sets:
            raise UsageError("an outpainter needs at least one engine set")
        self.devices = [Device(engines) for engines in engine_sets]
        self._mutex = threading.Lock()

    @contextmanager
    def join(self) -> Iterator[Device]:
        """Take part as one session. Its home is the device with the fewest sessions."""
        with self._mutex:
            home = min(self.devices, key=lambda device: device.sessions)
            home.sessions += 1
        try:
            yield home
        finally:
            with self._mutex:
                home.sessions -= 1

    @contextmanager
    def parallel(self, parts: int) -> Iterator[Callable[[Callable[[_T], _R], Sequence[_T]], list[_R]]]:
        """Yield a function like `map`. With several devices it runs up to `parts` items at once, else in order."""
        if min(parts, len(self.devices)) == 1:
            yield lambda function, items: [function(item) for item in items]
            return
        with ThreadPoolExecutor(min(parts, len(self.devices))) as threads:
            yield lambda function, items: list(threads.map(function, items))
