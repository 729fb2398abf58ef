"""The bar counts the steps that a sampler takes, window by window, and is closed when they are done."""

import pytest

from hero_rt import Outpainter
from tests.clips import small_clip
from tests.runtime.recording import ZeroEngines


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 3), ("heun", 5)])  # Heun evaluates all but the last step twice
def test_a_window_has_a_bar_of_its_steps(monkeypatch, sampler, steps):
    bars = []

    class Bar:
        def __init__(self, total, **options):
            self.total, self.n, self.options, self.closed = total, 0, options, False
            bars.append(self)

        def update(self):
            self.n += 1

        def close(self):
            self.closed = True

    monkeypatch.setattr("hero_rt.progress.tqdm", Bar)
    outpainter = Outpainter(ZeroEngines())
    outpainter.set_progress_bar_config(leave=False)
    list(outpainter.stream(small_clip(28), pad=(0, 24, 0, 24), num_inference_steps=3, sampler=sampler))
    assert [(bar.total, bar.n, bar.closed) for bar in bars] == [(steps, steps, True)] * 2
    assert bars[0].options == {"desc": "denoise", "leave": False}
