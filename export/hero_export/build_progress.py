"""Progress of a build: bars in a terminal, plain lines where stderr is a file or a pipe."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

LINE_SECONDS = 10.0  # at most one plain line of a phase in this time


class BuildProgress:
    """Counts finished engines, and shows the phases inside one. A context manager."""

    def __init__(self, console: Console, title: str, total: int):
        self._console, self._title, self._total = console, title, total
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total)
        self._phases: dict[str, TaskID] = {}
        self._done = 0
        self._begin = self._said = time.monotonic()

    def __enter__(self) -> "BuildProgress":
        self._bar.start()
        self._say(f"{self._title}: {self._total} to do")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def finished(self, what: str) -> None:
        """One more is done."""
        self._done += 1
        self._bar.advance(self._task)
        self._say(f"{self._done} of {self._total}: {what}")

    def phase(self, phase: str, done: int, total: int) -> None:
        """`done` of `total` steps of a phase."""
        if phase not in self._phases:
            self._phases[phase] = self._bar.add_task(phase)
        self._bar.update(self._phases[phase], completed=done, total=total, visible=done < total)
        if time.monotonic() - self._said >= LINE_SECONDS:
            self._say(f"{phase}, {done} of {total}")

    def _say(self, text: str) -> None:
        if not self._console.is_terminal:
            self._said = time.monotonic()
            self._console.print(f"{self._said - self._begin:6.1f} s  {text}", highlight=False, soft_wrap=True)
