"""`python -m benchmarks run` as a user types it, on the small model: what is written, and that wrong is not timed."""

import re
import sys
from pathlib import Path

import pytest

import benchmarks.context
from benchmarks import cli
from benchmarks.contenders import BASELINE, UNCACHED, open_contender
from benchmarks.context import Context
from benchmarks.report import suite_section
from benchmarks.runner import run_suites
from benchmarks.schema import Case, read_run
from benchmarks.settings import Settings
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import EngineError
from hero_rt.models.hero import HeroModel


def command(*arguments: object) -> int:
    """The exit code of `python -m benchmarks`, in this process."""
    argv, sys.argv = sys.argv, ["benchmarks", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
    return 0


STEP = ("run", "unet-step", "--device", "cpu", "--size", "64x64", "--guidance", "on", "--repeats", 1)


def test_what_nobody_expected_is_reported_with_its_traceback_and_what_was_in_a_line(capsys):
    said: list[str] = []
    context = Context(Settings(device="cpu"), ceilings=None, say=said.append)

    def fail(error):
        raise error

    assert context.attempt("aoti", lambda: fail(EngineError("no compiler"))) is None
    assert capsys.readouterr().err == ""
    assert context.attempt("compile", lambda: fail(KeyError("buf7"))) is None
    assert re.search(r"Traceback .*\n(.*\n)* +raise error\n(.*\n)*KeyError: 'buf7'", capsys.readouterr().err)
    assert said == ["aoti: not available here: no compiler", "compile: not available here: KeyError: 'buf7'"]


def test_a_wrong_engine_prints_no_time_and_the_run_fails(small_ceilings, monkeypatch, tmp_path, capsys):
    def with_another_model(settings, name, model):
        if name == "onnxruntime":
            return EagerEngines(HeroModel.random(settings.config, seed=1))
        if name == "aoti":
            raise EngineError("no compiler")
        return open_contender(settings, name, model)

    monkeypatch.setattr(benchmarks.context, "open_contender", with_another_model)
    out = tmp_path / "out.json"
    wanted = ("--only", "onnxruntime", "--only", "aoti", "--json", out, "--cache", tmp_path / "cache")
    assert command(*STEP, *wanted) == 3
    printed = capsys.readouterr()
    lines = {line.split()[4]: line for line in printed.out.splitlines() if line.startswith("unet-step")}
    assert re.search(r" ms one run .* of limit .*x eager-cached .* match", lines[BASELINE])
    assert "MISMATCH" in lines["onnxruntime"]
    assert " ms " not in lines["onnxruntime"]
    assert "onnxruntime differs from the reference and was not timed" in printed.err

    assert "aoti: not available here: no compiler" in printed.out

    run = read_run(out)
    assert [missing.name for missing in run.suites[0].unavailable] == ["aoti"]
    case = run.suites[0].cases[0]
    assert case.find("onnxruntime").timing is None
    assert case.find("onnxruntime").verification.relative_l2 > 0.1
    for name in (BASELINE, UNCACHED):  # two computations of the same step, both against FP64
        assert case.find(name).verification.against == "eager float64"
        assert 0 < case.find(name).verification.relative_l2 < 1e-5
        assert case.find(name).timing.repeats == 1
    assert case.work.flops > 1e9
    assert run.environment.commit
    assert run.environment.versions["torch"]
    rows = run.suites[0].operators[f"{BASELINE} 64x64x16-cfg"]
    assert any("conv" in row.operator for row in rows)
    assert sum(row.share for row in rows) <= 1.001


def test_a_run_that_is_cut_leaves_the_cases_that_it_finished(small_ceilings, monkeypatch, tmp_path):
    def one_case_then_the_end(context):
        yield Case(name="first", baseline="a", measurements=[])
        raise KeyboardInterrupt

    out = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        run_suites({"unet-step": one_case_then_the_end}, Settings(device="cpu"), out, lambda _: None)
    (cut,) = read_run(out).suites
    assert [case.name for case in cut.cases] == ["first"]
    assert not cut.finished
    assert any("The run ended early, after these cases." in line for line in suite_section(cut))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("run", "nothing"), "unknown suite 'nothing'; known: kernels, unet-step", id="suite"),
        pytest.param(("run", "unet-step", "--size", "64"), "--size '64' is not WIDTHxHEIGHT", id="size"),
        pytest.param(("run", "unet-step", "--guidance", "maybe"), "'maybe' is not one of", id="guidance"),
        pytest.param(
            ("run", "unet-step", "--only", "magic", "--device", "cpu"), "unknown contender 'magic'", id="contender"
        ),
        pytest.param(("run", "unet-step", "--device", "gpu"), "device 'gpu' is not cpu, cuda", id="device"),
        pytest.param(("run", "unet-step", "--preset", "big", "--device", "cpu"), "unknown preset 'big'", id="preset"),
        pytest.param(("compare", "a.json", "b.json"), "a.json does not exist", id="compare"),
        pytest.param(
            ("run", "unet-step", "--dtype", "int4", "--device", "cpu"),
            "'int4' is not one of",
            id="dtype",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(small_ceilings, arguments, says, capsys):
    assert command(*arguments) == 2
    assert says in capsys.readouterr().err


def test_help_and_list_name_every_command_and_suite(capsys):
    assert command("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("run", "list", "compare", "report"))
    assert command("list") == 0
    listed = capsys.readouterr().out
    assert re.findall(r"^([a-z-]+)  ", listed, re.M) == [
        "kernels", "unet-step", "end-to-end", "caching", "long-video", "callers", "cold-start"
    ]  # fmt: skip


def test_runs_without_a_gpu_say_so(tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("says what happens where there is no GPU")
    assert command("run", "kernels", "--device", "cuda", "--json", tmp_path / "out.json") == 2
    assert "no CUDA device here" in capsys.readouterr().err
    assert list(Path(tmp_path).iterdir()) == []
