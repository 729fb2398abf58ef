"""The order of the GPU's report, its budget, and that every step is a command that exists. Nothing needs a GPU."""

import importlib.util
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
import torch

from benchmarks import cli
from benchmarks.schema import Unavailable, write_run
from hero_rt.errors import EngineError
from tests.benchmarks.test_compare import run_with

SCRIPT = Path(__file__).parents[2] / "scripts/gpu-report"
loader = SourceFileLoader("gpu_report", str(SCRIPT))
gpu_report = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
loader.exec_module(gpu_report)
NEEDS, STEPS, run_steps = gpu_report.NEEDS, gpu_report.STEPS, gpu_report.run_steps


def say(line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def commands(monkeypatch):
    """Commands that would have run; each leaves its file, as a run does."""
    seen = []

    def record(command, seconds):
        seen.append((command, seconds))
        write_run(Path(command[command.index("--json") + 1]), run_with({"eager-cached": [1.0]}))
        return 0

    monkeypatch.setattr(gpu_report, "_run", record)
    return seen


def test_steps_go_from_most_to_least_worth():
    names = list(STEPS)
    assert names[:2] == ["kernels", "unet-step-256"]
    assert names.index("end-to-end-256") < names.index("unet-step-512") < names.index("end-to-end-512")
    assert names[-2:] == ["unet-step-256-max-autotune", "unet-step-256-aoti-max-autotune"]


@pytest.mark.parametrize("rival", ["compile", "compile-max-autotune"])
def test_a_step_times_the_engine_and_its_rival_in_one_run(rival):
    """A ratio is of one run: an engine in one file and its rival in another fill no target."""
    steps = [arguments.split() for arguments in STEPS.values()]
    together = [words for words in steps if words[0] == "unet-step" and {"aoti", rival} <= {*words}]
    assert any("256x256" in words for words in together)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_a_command_that_the_runner_takes(step, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "benchmarks.runner.run_suites", lambda suites, settings, out, say: asked.append((list(suites), settings))
    )
    monkeypatch.setattr(sys, "argv", ["benchmarks", "run", *STEPS[step].split(), "--device", "cuda"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    (((suite,), settings),) = asked
    assert suite == STEPS[step].split()[0]
    assert (settings.preset, settings.dtype) == ("hero-sd15", "fp32" if "fp32" in step else "fp16")
    from benchmarks.contenders import contender_names

    assert contender_names(settings, compiled=False)[:2] == ["eager-cached", "eager-uncached"]


def files(folder: Path, *names: str) -> dict[Path, str]:
    """Steps whose arguments do not matter."""
    return {folder / f"{name}.json": "kernels --device cuda" for name in names}


def test_a_step_whose_file_is_there_is_not_run_again(commands, tmp_path):
    steps = files(tmp_path, "one", "two")
    write_run(tmp_path / "one.json", run_with({"eager-cached": [1.0]}))
    assert run_steps(steps, lambda: 500.0, say) == []
    assert [command[command.index("--json") + 1] for command, _ in commands] == [str(tmp_path / "two.json")]
    assert run_steps(steps, lambda: 500.0, say) == []
    assert len(commands) == 1


def test_what_was_cut_before_its_first_case_comes_last_and_what_has_one_is_kept(commands, tmp_path):
    steps = files(tmp_path, "empty", "partial", "new")
    for name in ("empty", "partial"):
        run = run_with({"eager-cached": [1.0]})
        run.suites[0].finished = False
        if name == "empty":
            run.suites[0].cases = []
        write_run(tmp_path / f"{name}.json", run)
    assert run_steps(steps, lambda: 500.0, say) == []
    assert [Path(command[command.index("--json") + 1]).name for command, _ in commands] == ["new.json", "empty.json"]


@pytest.mark.parametrize(
    ("left", "keeps_its_place"), [pytest.param(480.0, False, id="whole"), pytest.param(200.0, True, id="remainder")]
)
def test_only_what_had_a_whole_budget_without_a_case_loses_its_place(monkeypatch, tmp_path, left, keeps_its_place):
    def cut(command, seconds):
        run = run_with({})
        run.suites[0].cases, run.suites[0].finished = [], False
        write_run(Path(command[command.index("--json") + 1]), run)

    monkeypatch.setattr(gpu_report, "_run", cut)
    clock = iter([480.0, left])
    assert run_steps(files(tmp_path, "one"), lambda: next(clock), say) == []
    assert (tmp_path / "one.json").is_file() != keeps_its_place


def test_what_a_step_leaves_running_is_stopped_too(tmp_path):
    mark = tmp_path / "still-running"
    grandchild = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
    child = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {grandchild!r}])"
    assert gpu_report._run([sys.executable, "-c", child], 60.0) == 0
    time.sleep(3)
    assert not mark.exists()


def test_a_step_of_formats_is_left_out_where_none_of_them_runs(monkeypatch):
    def check(settings, format):
        if format != "onnxruntime":
            raise EngineError(f"no {format} here")

    monkeypatch.setattr(gpu_report, "check_available", check)
    assert not gpu_report.why_absent([], "cuda")
    assert not gpu_report.why_absent(["tensorrt", "onnxruntime"], "cuda")
    neither = gpu_report.why_absent(NEEDS["unet-step-256-tensorrt"], "cuda")
    assert neither == "no tensorrt here; no tensorrt-rtx here"
    assert {*NEEDS} <= {*STEPS}


def test_what_a_file_has_no_figures_of_is_said(tmp_path):
    run = run_with({"eager-cached": [1.0]})
    run.suites[0].unavailable = [Unavailable(name="aoti", reason="it does not link")]
    whole, cut = tmp_path / "whole-gpu.json", tmp_path / "cut-gpu.json"
    write_run(whole, run)
    run = run_with({"eager-cached": [1.0]})
    run.suites[0].finished = False
    write_run(cut, run)
    assert list(gpu_report.what_is_missing([whole, cut, tmp_path / "none.json"])) == [
        f"whole-gpu lacks aoti: it does not link; delete {whole} to run its step again",
        f"cut-gpu ends early, after 1 cases; delete {cut} to run its step again",
    ]


def test_no_step_starts_when_the_budget_is_spent(commands, tmp_path):
    left = iter([100.0, 100.0, 10.0])
    run_steps(files(tmp_path, "one", "two"), lambda: next(left), say)
    assert [seconds for _, seconds in commands] == [100.0]


def test_a_step_that_outlasts_the_budget_is_stopped_with_all_that_it_started(tmp_path):
    mark = tmp_path / "still-running"
    grandchild = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    assert gpu_report._run([sys.executable, "-c", child], 1.0) is None
    time.sleep(3)
    assert not mark.exists()


def test_a_step_that_fails_is_said_and_the_others_go_on(commands, monkeypatch, tmp_path):
    codes = iter([3, 0])
    monkeypatch.setattr(gpu_report, "_run", lambda command, seconds: next(codes))
    assert run_steps(files(tmp_path, "one", "two"), lambda: 100.0, say) == ["one ended with exit code 3"]
    assert next(codes, None) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_without_a_gpu_it_says_what_to_run_instead():
    command = [sys.executable, str(SCRIPT), "--time-budget", "60"]
    seen = subprocess.run(command, capture_output=True, text=True, check=False)
    assert seen.returncode == 2
    assert "no CUDA device here; gpu-report measures GPUs (on a CPU: make bench)" in seen.stderr
