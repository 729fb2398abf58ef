"""Clips in processes of their own: what such a process imports, hands back, and how often one is started."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.clip_run import outpaint_pan
from benchmarks.fresh_process import ClipJob, ClipOutcome, Ends, run_in_fresh_process
from benchmarks.settings import Settings
from benchmarks.suites import long_video
from hero_rt.engines import open_engines
from hero_rt.spec.profile import Profile

PROFILE = Profile(128, 64, 16)


def job(folder, **changed) -> ClipJob:
    settings = Settings.for_device("cpu", sizes=((128, 64),))
    return ClipJob(settings, "onnxruntime", folder, PROFILE, 16, 2, "stream", warm=False)


def test_engines_in_a_fresh_process_make_what_they_make_in_this_one(engine_folder):
    outcome = run_in_fresh_process(job(engine_folder))
    engines = open_engines(engine_folder, "cpu")
    (want,) = outpaint_pan(engines, PROFILE, 16, 2, "stream")
    engines.close()
    np.testing.assert_array_equal(outcome.frames, np.concatenate([want, want]))  # the first, and the last
    assert outcome.cold == outcome.open + outcome.first_window
    assert 0 < outcome.first_window <= outcome.total
    stored = sum(path.stat().st_size for path in engine_folder.iterdir() if "-cfg" not in path.name)
    assert 0.9 * stored < outcome.weights_bytes <= stored
    assert outcome.peak_bytes > 0


def test_it_imports_what_an_application_with_engines_does():
    """The exporter's imports took five seconds, which were counted as the engines' own."""
    code = "import sys, benchmarks.fresh_process; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = seen.stdout.split()
    assert "hero_rt" in imported
    assert not {"hero_export", "hero_kernels", "transformers", "onnx", "matplotlib"} & {*imported}


@pytest.mark.parametrize("lengths", [pytest.param([16], id="short"), pytest.param([16] + [12] * 9, id="long")])
def test_the_first_frames_and_the_last_chunk_are_kept(lengths):
    video = np.arange(sum(lengths), dtype=np.uint8).reshape(-1, 1, 1, 1)
    ends, start = Ends(), 0
    for length in lengths:
        ends.add(video[start : start + length])
        start += length
    assert ends.count == len(video)
    np.testing.assert_array_equal(ends.frames(), np.concatenate([video[:64], video[-lengths[-1] :]]))


def test_a_long_clip_is_verified_and_timed_in_as_many_processes_as_it_has_repeats(monkeypatch, tmp_path):
    totals = iter([3.2, 6.4, 1.6])

    def run(_):
        total = next(totals)
        return ClipOutcome(1.0, 1.0, total / 2, total, 1, int(10 * total), np.zeros((1, 1, 1, 3), np.uint8))

    monkeypatch.setattr(long_video, "run_in_fresh_process", run)
    runs = long_video.Runs(job(tmp_path))
    assert [runs().total for _ in range(4)] == [3.2, 3.2, 6.4, 1.6]
    assert runs.figures(5.0) == {
        "seconds_per_frame": 3.2 / 16, "first_window_s": 1.6, "prepared_bytes": 5.0, "peak_bytes": 64
    }  # fmt: skip
