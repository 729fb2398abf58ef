"""Shows the progress of a build."""

from rich.console import Console
from rich.progress import TaskID

from hero_rt.cli_progress import CliProgress


class BuildProgress(CliProgress):
    """Counts finished engines, and shows the phases inside one."""

    def __init__(self, console: Console, title: str, total: int):
        super().__init__(console, f"{title}: {total} to do")
        self._task, self._total, self._done = self.bar.add_task(title, total=total), total, 0
        self._phases: dict[str, TaskID] = {}

    def finished(self, what: str) -> None:
        """Count one more engine."""
        self._done += 1
        self.bar.advance(self._task)
        self.say(f"{self._done} of {self._total}: {what}")

    def phase(self, phase: str, done: int, total: int) -> None:
        """Show `done` of `total` steps of a phase."""
        if phase not in self._phases:
            engine = phase.partition(":")[0]
            if not any(name.startswith(engine) for name in self._phases):
                self.say(phase)  # the first phase takes minutes
            self._phases[phase] = self.bar.add_task(phase)
        self.bar.update(self._phases[phase], completed=done, total=total, visible=done < total)
        self.say_seldom(f"{phase}, {done} of {total}")
