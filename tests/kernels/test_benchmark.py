"""What the GPU benchmark would measure, and that it refuses to time what does not match. Nothing is timed here."""

import pytest
import torch

from benchmarks.kernels import temporal_attention_im3 as benchmark


def test_cases_are_the_presets_levels_at_both_sizes():
    shapes = {case.name: case.shape for case in benchmark.CASES}
    assert len(shapes) == len(benchmark.CASES) == 16
    assert shapes["16x256x256 L0 C320"] == (1, 16, 1024, 320)
    assert shapes["16x512x512-cfg L0 C320"] == (2, 16, 4096, 320)
    assert {case.shape for case in benchmark.CASES if case.pixels == 256 and case.guidance_rows == 2} == {
        (2, 16, 1024, 320), (2, 16, 256, 640), (2, 16, 64, 1280), (2, 16, 16, 1280)
    }  # fmt: skip


def test_a_form_that_does_not_match_is_not_timed():
    v = torch.randn(1, 16, 4, 320)
    assert benchmark.verify("same", lambda: v.half(), v, v) < benchmark.TOLERANCE
    with pytest.raises(SystemExit, match=r"wrong differs from the reference by .* nothing was timed"):
        benchmark.verify("wrong", lambda: v + 0.1, v, v)
    with pytest.raises(SystemExit, match="nothing was timed"):
        benchmark.verify("nan", lambda: v * float("nan"), v, v)


def result(channels, of_copy, over_compiled):
    return benchmark.Result("case", (1, 16, 4, channels), 1, 1, 1, 1, 1, of_copy, 1, over_compiled, 0)


def test_missed_targets_are_named():
    assert benchmark.misses([result(320, 0.8, 1.0), result(1280, 0.1, 1.0)]) == []
    assert benchmark.misses([result(320, 0.79, 1.0)]) == ["case: 0.79 of a copy, target 0.8"]
    assert benchmark.misses([result(1280, 0.9, 0.99)]) == ["case: 0.99x torch.compile"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert benchmark.main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: no CUDA device; this benchmark measures GPU kernels\n"
    assert list(tmp_path.iterdir()) == []
