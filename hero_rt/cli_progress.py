"""Shows progress: a bar in a terminal, plain lines if stderr is a file or a pipe."""

import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_SECONDS = 10.0  # between plain lines of `say_seldom`


class CliProgress:
    """Shows the bars or lines of one command. It is a context manager. `first` is the line at its start."""

    def __init__(self, console: Console, first: str):
        self._console, self._first = console, first
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._begin = self._said = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        self.say(self._first)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Print a line if there is no terminal."""
        if not self._console.is_terminal:
            self._said = time.monotonic()
            self._console.print(f"{self._said - self._begin:6.1f} s  {text}", highlight=False, soft_wrap=True)

    def say_seldom(self, text: str) -> None:
        """Print a line as `say` does, unless another one was printed shortly before."""
        if time.monotonic() - self._said >= LINE_SECONDS:
            self.say(text)


class SessionProgress(CliProgress):
    """An `on_event` callback of `OutpaintSession`."""

    def __init__(self, console: Console):
        super().__init__(console, "prepare")
        self._task = self.bar.add_task("prepare", total=None)

    def __call__(self, event: Any) -> None:
        from hero_rt.session import Prepared, StepDone

        window = f"window {event.window + 1}" + (f" of {event.num_windows}" if event.num_windows else "")
        if isinstance(event, Prepared):
            total = event.num_windows and event.num_windows * event.steps
            self.bar.update(self._task, description=f"denoise, {window}", total=total)
        elif isinstance(event, StepDone):
            self.bar.advance(self._task)
            self.say_seldom(f"{window}, step {event.step + 1} of {event.steps}")
        else:
            self.bar.update(self._task, description="prepare")
            self.say(f"{window} finished, {len(event.frames)} frames")
