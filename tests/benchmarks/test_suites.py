"""Each suite, run as `python -m benchmarks run` does, on the small model with the two baselines. No time is judged."""

import pytest
import torch

from benchmarks.roofline import clip_work, submodule_work
from benchmarks.runner import run_suites
from benchmarks.schema import Case, read_run
from benchmarks.settings import Settings
from benchmarks.suites import find_suite
from benchmarks.suites.clips import FEW_STEPS
from hero_rt.spec.profile import Profile

BASELINES = ["eager-cached", "eager-uncached"]
PROFILE = Profile(64, 64, 16)
TOKENS, WIDTHS = (64, 16, 4, 1), (32, 32, 48, 48)
LEVELS = (0, 0, 1, 1, 2, 2, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0)  # of the step's 16 spatial attentions
REFERENCE = 4 * sum(2 * 16 * TOKENS[level] * WIDTHS[level] for level in LEVELS)  # ref_k and ref_v in FP32


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(small_ceilings, cache, tmp_path):
    """The cases of one suite, as its file has them."""

    def run_one(name: str, **asked) -> list[Case]:
        settings = Settings(
            device="cpu", size=("64x64",), guidance="off", repeats=1, only=("eager-cached",), cache=cache, **asked
        )
        run_suites({name: find_suite(name)}, settings, tmp_path / "out.json", lambda _: None)
        (result,) = read_run(tmp_path / "out.json").suites
        assert result.finished
        assert result.unavailable == []
        return result.cases

    return run_one


def check(case: Case, contenders: list[str]) -> None:
    """Everyone matched the FP64 truth, and has a time and a share of the limit."""
    assert [m.name for m in case.measurements] == contenders
    for m in case.measurements:
        assert m.verification.relative_l2 <= m.verification.limit
        assert m.timing.repeats == 1
        assert m.share_of_limit == pytest.approx(case.limit / m.timing.median)


@pytest.mark.slow
def test_callers_share_an_outpainter_and_get_their_own_frames(run):
    (case,) = run("callers")
    assert [m.name for m in case.measurements] == ["1 at once", "2 at once", "4 at once"]
    for m in case.measurements:
        assert m.verification.passed
        assert m.figures["frames_per_s"] == pytest.approx(4 * 16 / m.timing.median)


@pytest.mark.slow
def test_end_to_end(run):
    (case,) = run("end-to-end", steps=(2,))
    check(case, BASELINES)
    assert case.name == "hero-tiny 64x64x16 fp32 2 steps"
    assert case.work == clip_work("hero-tiny", "fp32", PROFILE, 2)
    for m in case.measurements:
        assert 0 < m.verification.relative_l2 < 1e-5
        assert m.verification.psnr_db > 60
        phases = m.figures["prepare_s"] + m.figures["denoise_s"] + m.figures["decode_s"]
        assert phases == pytest.approx(m.timing.median, rel=0.05)
        rest = m.figures["weights_bytes"] + m.figures["boundary_bytes"] + m.figures["scratch_bytes"]
        assert m.figures["peak_bytes"] <= rest
        assert min(m.figures["video_read_s"], m.figures["video_write_s"]) > 0


def test_caching(run):
    (case,) = run("caching")
    check(case, ["eager-cached", "eager-raw-features", "eager-uncached"])
    cached, raw, uncached = (m.figures["bound_bytes"] for m in case.measurements)
    assert cached - raw == REFERENCE / 2  # one feature instead of a key and a value
    assert uncached < raw


@pytest.mark.slow
def test_long_video(run):
    stream, joint = run("long-video", frames=(20,))
    windows = clip_work("hero-tiny", "fp32", PROFILE, FEW_STEPS, windows=2)  # frames 0 to 15, and the last 16
    for case in (stream, joint):
        check(case, BASELINES)
        assert case.work == windows
    for one, both in zip(stream.measurements, joint.measurements, strict=True):
        assert both.figures["prepared_bytes"] == 2 * one.figures["prepared_bytes"] > 2 * REFERENCE
        assert 0 < one.figures["first_window_s"] < one.timing.median
        assert one.figures["seconds_per_frame"] == pytest.approx(one.timing.median / 20)


@pytest.mark.slow
def test_cold_start(run):
    (case,) = run("cold-start")
    check(case, BASELINES)
    assert case.work == clip_work("hero-tiny", "fp32", PROFILE, FEW_STEPS)
    for m in case.measurements:
        assert m.timing.median == pytest.approx(m.figures["open_s"] + m.figures["first_window_s"])
        assert m.figures["process_s"] > 0


def test_kernels(run, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)  # what a compiler makes is not the subject
    cases = run("kernels")
    assert [case.name for case in cases] == [f"64x64x16 L{i} C{width} fp32" for i, width in enumerate(WIDTHS)]
    for case, tokens, width in zip(cases, TOKENS, WIDTHS, strict=True):
        check(case, ["eager", "compile", "operator", "copy"])
        assert case.work.bytes == 4 * 4 * 16 * tokens * width
        assert case.find("eager").figures["bytes_per_s"] == case.work.bytes / case.find("eager").timing.median


def test_a_limit_is_that_of_the_best_ceilings_of_the_run(run, monkeypatch):
    from benchmarks import runner

    measured = runner.measure_ceilings
    factors = iter([1.0, 1000.0])  # a machine that was slow before the suite

    def measure_ceilings(*arguments):
        found = measured(*arguments)
        factor = next(factors)
        return found.model_copy(update={"flops_per_s": factor * 1e6, "bytes_per_s": factor * 1e6})

    monkeypatch.setattr(runner, "measure_ceilings", measure_ceilings)
    (case,) = run("caching")
    work = submodule_work("hero-tiny", "fp32", "unet_step", PROFILE)
    assert case.limit == pytest.approx(max(work.flops, work.bytes) / 1e9)
    check(case, ["eager-cached", "eager-raw-features", "eager-uncached"])
