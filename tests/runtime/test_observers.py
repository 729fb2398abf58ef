"""Observers see every run with its engine, and change nothing."""

import json
from collections import Counter

import numpy as np

from hero_rt import Outpainter
from hero_rt.engines.eager import EagerEngines
from hero_rt.engines.observers import ChromeTrace, NvtxRanges
from tests.clips import small_clip

ARGUMENTS = {"pad": (0, 24, 0, 24), "num_inference_steps": 3, "seed": 1}


def outpainter(tiny) -> Outpainter:
    made = Outpainter(EagerEngines(tiny))
    made.set_progress_bar_config(disable=True)
    return made


def test_a_chrome_trace_holds_every_run_inside_the_one_before_its_end(tiny, tmp_path):
    plain = outpainter(tiny)(small_clip(), **ARGUMENTS).frames
    traced, path = outpainter(tiny), tmp_path / "trace.json"
    with ChromeTrace(path) as trace:
        traced.engines.observers.append(trace)
        assert np.array_equal(traced(small_clip(), **ARGUMENTS).frames, plain)
    events = json.loads(path.read_text())["traceEvents"]
    once = ("vae_encoder", "semantic", "refnet", "flow_encoder", "vae_decoder")
    assert Counter(event["name"] for event in events) == dict.fromkeys(once, 1) | {"unet_step": 3}
    assert {event["ph"] for event in events} == {"X"}
    ends = [event["ts"] + event["dur"] for event in events]
    assert all(end <= after["ts"] for end, after in zip(ends, events[1:], strict=False))
    assert {event["args"]["profile"] for event in events} == {"128x64x16"}


def test_nvtx_ranges_are_opened_and_closed_around_each_run(tiny, monkeypatch):
    calls = []
    monkeypatch.setattr("torch.cuda.nvtx.range_push", calls.append)
    monkeypatch.setattr("torch.cuda.nvtx.range_pop", lambda: calls.append("pop"))
    marked = outpainter(tiny)
    marked.engines.observers.append(NvtxRanges())
    marked(small_clip(), **ARGUMENTS)
    assert calls[::2].count("unet_step 128x64x16") == 3
    assert set(calls[1::2]) == {"pop"}
