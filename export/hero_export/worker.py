"""Builds each engine in a process of its own, which frees its memory, measures its own peak and can be stopped."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from hero_export.engine_build import EngineTask, FinishedEngine, build_engine
from hero_rt.cli_errors import INTERRUPTED
from hero_rt.errors import HeroError

_STOP_SECONDS = 5.0  # for an interrupted build to end by itself

PhaseReport = Callable[[str, int, int], None]  # "unet_step 64x64x16: phase", steps done, steps in all


class Workers:
    """Starts builds. Leaving the `with` block ends builds that still run, so a Ctrl-C leaves no process."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # now: its start unblocks SIGINT
        self._running: set[Any] = set()
        self._stopped = False
        self._lock = threading.Lock()  # several threads wait for a build each

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _stop(process)

    def build(self, task: EngineTask, on_phase: PhaseReport) -> FinishedEngine:
        """Build one engine and wait for it. Raises the error of the build, or HeroError if it was killed.

        Runs in a thread, not in the main one: the thread blocks SIGINT.
        """
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(sender, task))
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            # the child starts with the mask of this thread: a Ctrl-C while it imports waits until `_work` can handle it
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            process.start()
            self._running.add(process)
        sender.close()  # the child's end closes with the child
        try:
            while not isinstance(message := receiver.recv(), FinishedEngine):
                if isinstance(message, BaseException):
                    raise message
                phase, done, total = message
                on_phase(f"{task.submodule} {task.profile}: {phase}", done, total)
            return message
        except EOFError as error:
            engine = f"{task.submodule} at {task.profile}"
            process.join()
            if self._stopped or process.exitcode == INTERRUPTED:
                raise KeyboardInterrupt from error
            if process.exitcode is not None and process.exitcode > 0:
                raise HeroError(f"building {engine} failed; its traceback stands above") from error
            raise HeroError(
                f"the process building {engine} was killed, most often because memory ran out; free some "
                "and run the command again (finished engines are kept)"
            ) from error
        finally:
            receiver.close()
            process.join()
            with self._lock:
                self._running.discard(process)


def _stop(process: Any) -> None:
    if process.is_alive():
        with contextlib.suppress(ProcessLookupError):  # it may end just now
            os.kill(process.pid, signal.SIGINT)  # a second signal, after that of the terminal, does no harm
        process.join(_STOP_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def _work(sender: Connection, task: EngineTask) -> None:
    """Run a build in the child. A Ctrl-C stops TensorRT at its next step. The parent kills a phase without steps."""
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda number, frame: interrupted.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def progress(phase: str, done: int, total: int) -> bool:
        sender.send((phase, done, total))
        return not interrupted.is_set()

    try:
        sender.send(build_engine(task, progress))
    except (HeroError, OSError) as error:
        sender.send(error)  # for the user; anything else is a defect: its traceback is printed, the parent sees an end
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _end_with_parent() -> None:
    """End this process when its parent ends. A killed parent cannot stop its builds."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
