"""A progress bar of denoising steps, made from a session's events."""

from typing import Any

from tqdm.auto import tqdm

from hero_rt.session import Event, OnEvent, Prepared, StepDone


class ProgressBar:
    """An `on_event` callback: one tqdm bar a window.

    Args:
        options: keyword arguments of tqdm.
        on_event: called with each event after the bar.
    """

    def __init__(self, options: dict[str, Any], on_event: OnEvent):
        self._options, self._on_event = {"desc": "denoise"} | options, on_event
        self._bar: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Prepared):
            self._bar = tqdm(total=event.steps, **self._options)
        elif isinstance(event, StepDone):
            self._bar.update()
            if self._bar.n == self._bar.total:
                self._bar.close()
        self._on_event(event)
