"""A progress bar of denoising steps, made from a session's events."""

from typing import Any

from tqdm.auto import tqdm

from hero_rt.session import Event, Prepared, StepDone


class ProgressBar:
    """An `on_event` callback: one tqdm bar a window. options: keyword arguments of tqdm."""

    def __init__(self, options: dict[str, Any]):
        self._options = {"desc": "denoise"} | options
        self._bar: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Prepared):
            self._bar = tqdm(total=event.steps, **self._options)
        elif isinstance(event, StepDone):
            self._bar.update()
            if self._bar.n == self._bar.total:
                self._bar.close()
