"""Progress of a session on the command line: a bar in a terminal, plain lines where stderr is a file or a pipe."""

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 10.0  # at most one plain line in this time


class SessionProgress:
    """An `on_event` callback of `OutpaintSession`, and a context manager.

    Args:
        num_windows: None where the clip's length is unknown.
        steps: denoising steps of a window.
    """

    def __init__(self, console: Console, num_windows: int | None, steps: int):
        self._console, self._num_windows, self._steps = console, num_windows, steps
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("prepare", total=num_windows and num_windows * steps)
        self._begin = self._said = time.monotonic()

    def __enter__(self) -> "SessionProgress":
        self._bar.start()
        self._say("prepare")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, event: Any) -> None:
        from hero_rt.session import Prepared, StepDone

        window = f"window {event.window + 1}" + (f" of {self._num_windows}" if self._num_windows else "")
        if isinstance(event, Prepared):
            self._bar.update(self._task, description=f"denoise, {window}")
        elif isinstance(event, StepDone):
            self._bar.advance(self._task)
            if time.monotonic() - self._said >= LINE_SECONDS:
                self._say(f"{window}, step {event.step + 1} of {self._steps}")
        else:
            self._bar.update(self._task, description="prepare")
            self._say(f"{window} finished, {len(event.frames)} frames")

    def _say(self, text: str) -> None:
        if not self._console.is_terminal:
            self._said = time.monotonic()
            self._console.print(f"{self._said - self._begin:6.1f} s  {text}", highlight=False, soft_wrap=True)
