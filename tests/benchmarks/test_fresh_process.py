"""Clips in processes of their own: what such a process imports, hands back, and how often one is started."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.clip import ClipJob, Ends, outpaint_pan, run_in_fresh_process
from benchmarks.settings import Settings
from hero_rt.engines import open_engines
from hero_rt.outpainter import Outpainter
from hero_rt.spec.profile import Profile

PROFILE = Profile(128, 64, 16)


def job(folder, **changed) -> ClipJob:
    settings = Settings(device="cpu", size=("128x64",))
    return ClipJob(settings, "onnxruntime", folder, PROFILE, 16, 2, "stream")


def test_engines_in_a_fresh_process_make_what_they_make_in_this_one(engine_folder):
    outcome = run_in_fresh_process(job(engine_folder))
    engines = open_engines(engine_folder, "cpu")
    (want,) = outpaint_pan(Outpainter(engines), PROFILE, 16, 2, "stream")
    engines.close()
    np.testing.assert_array_equal(outcome.frames, np.concatenate([want, want]))  # the first, and the last
    assert 0 < outcome.first_window <= outcome.total
    stored = sum(path.stat().st_size for path in engine_folder.iterdir() if "-cfg" not in path.name)
    assert 0.9 * stored < outcome.weights_bytes <= stored
    assert outcome.peak_bytes > 0


def test_it_imports_what_an_application_with_engines_does():
    """The exporter's imports took five seconds, which were counted as the engines' own."""
    code = "import sys, benchmarks.clip; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = seen.stdout.split()
    assert "hero_rt" in imported
    assert not {"hero_export", "hero_kernels", "transformers", "onnx", "matplotlib"} & {*imported}


@pytest.mark.parametrize("lengths", [pytest.param([16], id="short"), pytest.param([16] + [12] * 9, id="long")])
def test_the_first_frames_and_the_last_chunk_are_kept(lengths):
    video = np.arange(sum(lengths), dtype=np.uint8).reshape(-1, 1, 1, 1)
    ends = Ends(np.split(video, np.cumsum(lengths)[:-1]))
    assert ends.count == len(video)
    assert ends.first_at > 0
    np.testing.assert_array_equal(ends.frames, np.concatenate([video[:64], video[-lengths[-1] :]]))
