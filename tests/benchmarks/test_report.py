"""docs/performance.md shows what the committed results and notes hold, and says what nobody measured."""

import json
from pathlib import Path

import pytest

from benchmarks.plots import draw_plots
from benchmarks.report import (
    IMAGES,
    NOTES,
    PAGE,
    build_section,
    machine,
    page,
    read_results,
    suite_section,
    target_table,
    write_report,
)
from benchmarks.schema import Case, Measurement, Run, SuiteResult, Unavailable, Verification, write_run
from benchmarks.targets import TARGETS, Target
from benchmarks.timing import summarise
from tests.benchmarks.test_compare import run_with

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"


def test_every_committed_figure_is_shown(monkeypatch):
    monkeypatch.setattr("benchmarks.report.work_table", lambda: iter(()))
    runs, builds = read_results(RESULTS)
    assert runs
    assert builds
    text = "\n".join(page(runs, builds, {}, "## Further\n\nthe notes\n"))
    assert text.endswith("## Further\n\nthe notes\n")
    for name, run in runs.items():
        assert f"`{name}`" in text
        for result in run.suites:
            assert result.finished
            for case in result.cases:
                assert all(f"| {case.name} | {m.name} |" in text for m in case.measurements)
    for name, report in builds.items():
        assert f"`{name}`" in text
        assert all(f"| `{engine['engine']}` |" in text for engine in report["engines"])


def measured(name: str, samples: list[float], **figures: float) -> Measurement:
    return Measurement(
        name=name,
        verification=Verification(against="truth", relative_l2=1e-6, limit=1e-4, passed=True),
        timing=summarise(samples, warmup=1),
        ratio=2.0,
        share_of_limit=0.5,
        figures=figures,
    )


def test_a_table_holds_every_contender_and_no_time_for_a_mismatch():
    wrong = Measurement(
        name="wrong", verification=Verification(against="truth", relative_l2=0.5, limit=1e-4, passed=False), timing=None
    )
    case = Case(
        name="case",
        baseline="a",
        measurements=[measured("a", [0.25, 0.75], peak_bytes=3 * 2**20, prepare_s=2.0), wrong],
    )
    result = SuiteResult(
        suite="s", seconds=1, cases=[case], unavailable=[Unavailable(name="aoti", reason="no compiler")]
    )
    text = list(suite_section(result))
    assert (
        text[0]
        == "| case | contender | median ms | IQR ms | vs baseline | of limit | relative L2 | peak MiB | prepare ms |"
    )
    assert text[2] == "| case | a | 500 | 250 | 2.00x | 0.50 | 1e-06 | 3 | 2,000 |"
    assert text[3] == "| case | wrong | **mismatch** |  |  |  | 5e-01 |  |  |"
    assert "- aoti: no compiler" in text


def test_targets_of_a_gpu_are_not_yet_measured_until_a_run_says_otherwise():
    text = "\n".join(target_table([]))
    assert text.count("**not yet measured on a GPU**") == sum(target.on != "CPU" for target in TARGETS) == 8
    run = run_with({"eager-cached": [0.05], "compile": [0.03], "aoti": [0.016]})
    run.environment.gpu = "NVIDIA H100 80GB HBM3"
    run.suites[0].cases[0].name = "hero-sd15 256x256x16-cfg fp16"
    text = "\n".join(target_table([run]))
    assert "≤ 16.6 ms | 16.0 ms (aoti): met | NVIDIA H100 80GB HBM3" in text
    assert "≥ 2.50x | 3.12x (aoti): met" in text
    assert "≥ 1.20x | 1.88x (aoti): met" in text
    assert text.count("**not yet measured on a GPU**") == 5
    run.suites[0].cases[0].measurements[2].timing = summarise([0.02], 0)
    assert "20.0 ms (aoti): **missed**" in "\n".join(target_table([run]))


def on_a_gpu(date: str, suite: str, cases: dict[str, dict[str, list[float]]]) -> Run:
    run = run_with({})
    run.environment.gpu, run.environment.date = "NVIDIA H100 80GB HBM3", date
    run.suites[0].suite = suite
    run.suites[0].cases = [
        Case(name=name, baseline="eager", measurements=[measured(key, times) for key, times in contenders.items()])
        for name, contenders in cases.items()
    ]
    return run


def find_target(text: str) -> Target:
    return next(target for target in TARGETS if text in target.text)


def test_of_contenders_the_best_counts_and_of_cases_the_worst():
    target = find_target("temporal attention over torch.compile")
    slow = on_a_gpu("2026-01-01", "kernels", {"L0": {"fused": [2.0], "compile": [3.0]}})
    fast = on_a_gpu("2026-01-02", "kernels", {"L1": {"fused": [1.0], "compile": [4.0]}})
    assert target.seen([slow, fast]).value == target.seen([fast, slow]).value == 1.5
    again = on_a_gpu("2026-01-03", "kernels", {"L0": {"fused": [1.0], "compile": [2.0]}})
    assert target.seen([again, slow, fast]).value == 2.0  # the newer file, whatever order they are read in

    step = find_target("one step of hero-sd15")
    name = "hero-sd15 256x256x16-cfg fp16"
    aoti = on_a_gpu("2026-01-01", "unet-step", {name: {"aoti": [0.015]}})
    tensorrt = on_a_gpu("2026-01-02", "unet-step", {name: {"tensorrt": [0.02]}})
    assert (step.seen([aoti, tensorrt]).value, step.seen([aoti, tensorrt]).contender) == (0.015, "aoti")


def test_a_ratio_is_shown_with_its_rounds():
    run = run_with({"eager-cached": [1.0, 2.0, 3.0], "aoti": [1.0, 1.0, 1.5]})
    run.suites[0].suite, run.suites[0].cases[0].name = "end-to-end", "hero-tiny 128x128x16 fp32 25 steps"
    text = "\n".join(target_table([run]))
    assert "2.00x (aoti, 1.00 to 2.00 in 3 rounds): met | a processor |" in text


@pytest.mark.parametrize(
    ("dirty", "says"),
    [(True, "cccccccccc, with changes"), (False, "cccccccccc"), (None, "cccccccccc, unknown whether with changes")],
)
def test_a_page_says_whether_the_code_was_the_commits(dirty, says):
    run = run_with({})
    run.environment.dirty = dirty
    assert f"Commit {says}, 2026-01-01." in machine(run)


def test_a_case_in_which_nothing_matched_is_not_drawn_and_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.report.work_table", lambda: iter(()))  # a minute of counting, not the subject
    run = run_with({"eager-cached": None})
    write_run(tmp_path / "results/cpu.json", run)
    write_report(tmp_path / "results", tmp_path / "docs", plots=True)
    assert "| case | eager-cached | **mismatch** |" in (tmp_path / "docs" / PAGE).read_text()
    assert draw_plots("cpu", run, tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_a_build_report_becomes_a_table():
    report = {
        "model": "hero-sd15", "format": "tensorrt-rtx", "dtype": "fp16",
        "machine": {"processor": "x86_64", "cores": 2}, "versions": {"torch": "2.13.0"},
        "engines": [{"engine": "unet_step 256x256x16", "nodes": 2175, "engine_bytes": 2**21, "weights_bytes": 2**30, "seconds": 56.4, "peak_memory_bytes": 3 * 2**30}],
    }  # fmt: skip
    lines = list(build_section("plans.json", report))
    assert lines[0].startswith("### hero-sd15: tensorrt-rtx, fp16")
    assert lines[2] == "| engine | nodes | engine MiB | weights MiB | seconds | peak memory MiB |"
    assert lines[4] == "| `unet_step 256x256x16` | 2,175 | 2 | 1,024 | 56 | 3,072 |"


def test_the_page_and_its_plots_are_written_with_the_notes(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.report.work_table", lambda: iter(()))
    run = run_with({})
    run.suites[0].cases[0] = Case(
        name="step",
        baseline="eager-cached",
        limit=0.1,
        measurements=[measured("eager-cached", [0.3, 0.5]), measured("aoti", [0.2])],
    )
    lengths = [
        Case(
            name=f"hero {mode} {n} frames",
            baseline="eager-cached",
            measurements=[measured("eager-cached", [n / 16], peak_bytes=1e8)],
        )
        for mode in ("stream", "joint")
        for n in (16, 64)
    ]
    run.suites.append(SuiteResult(suite="long-video", seconds=1, cases=lengths))
    results, docs = tmp_path / "results", tmp_path / "docs"
    write_run(results / "cpu.json", run)
    docs.mkdir()
    learned = "## unet-step on a CPU\n\nOf the step.\n\n## unet-step on a GPU\n\nOf another.\n\n## How to read the tables\n\nSo.\n"
    (docs / NOTES).write_text(learned)
    write_report(results, docs)
    assert not (docs / IMAGES).exists()
    assert IMAGES not in (docs / PAGE).read_text()
    write_report(results, docs, plots=True)
    text = (docs / PAGE).read_text()
    # a note stands under the table that it is about; one whose table is missing comes last
    order = [
        "## How to read the tables\n\nSo.",
        "| step | aoti |",
        "Of the step.",
        "### long-video",
        "## unet-step on a GPU\n\nOf another.\n",
    ]
    assert sorted(order, key=text.index) == order
    assert text.endswith(order[-1])
    assert "No figure on this page is from a GPU: **not yet measured on a GPU**" in text
    for name in ("cpu-step-time.png", "cpu-frames.png"):
        assert f"({IMAGES}/{name})" in text
        assert (docs / IMAGES / name).read_bytes().startswith(b"\x89PNG")


def test_a_result_that_does_not_validate_is_named(tmp_path):
    from hero_rt.errors import UsageError

    (tmp_path / "bad.json").write_text(json.dumps({"suites": [], "schema_version": 1}))
    with pytest.raises(
        UsageError, match=r"bad\.json is not the result of a benchmark run \(environment: Field required\)"
    ):
        read_results(tmp_path)
