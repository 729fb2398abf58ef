"""Two result files against each other."""

from benchmarks.compare import compare_runs
from benchmarks.schema import (
    Case,
    Ceilings,
    Environment,
    Measurement,
    Run,
    SuiteResult,
    Verification,
    read_run,
    write_run,
)
from benchmarks.timing import summarise


def run_with(times: dict[str, list[float] | None], processor: str = "a processor") -> Run:
    """One case; None is a mismatch."""
    measurements = [
        Measurement(
            name=name,
            verification=Verification(against="truth", relative_l2=0, limit=1, passed=samples is not None),
            timing=None if samples is None else summarise(samples, warmup=0),
        )
        for name, samples in times.items()
    ]
    return Run(
        environment=Environment(
            date="2026-01-01T00:00:00+00:00", commit="c" * 40, dirty=False, processor=processor, cores=2, threads=2,
            memory_bytes=1, load_average=0, system="Linux", python="3.12", versions={}, clocks={},
        ),
        settings={},
        ceilings=Ceilings(dtype="fp32", flops_per_s=1, matmul_size=1, bytes_per_s=1, copy_bytes=1),
        suites=[SuiteResult(suite="unet-step", seconds=1, cases=[Case(name="case", baseline="a", measurements=measurements)])],
    )  # fmt: skip


def lines(before: Run, after: Run) -> dict[str, str]:
    return {line.split("  ")[2]: line for line in compare_runs(before, after) if line.startswith("unet-step")}


def test_faster_slower_noise_mismatch_and_what_only_one_has():
    before = run_with({"fast": [2.0, 2.1, 2.2], "slow": [1.0, 1.0], "same": [1.0, 1.4], "wrong": [1.0], "gone": [1.0]})
    after = run_with({"fast": [1.0, 1.05, 1.1], "slow": [3.0, 3.0], "same": [1.2, 1.3], "wrong": None, "new": [1.0]})
    seen = lines(before, after)
    assert seen["fast"].endswith("2,100 -> 1,050 ms  2.00x as fast")
    assert seen["slow"].endswith("1,000 -> 3,000 ms  3.00x as slow")
    assert seen["same"].endswith("within the spread")
    assert seen["wrong"].endswith("mismatch after: no time")
    assert seen["gone"].endswith("only before")
    assert seen["new"].endswith("only after")


def test_other_machines_are_said_to_differ():
    one, other = run_with({"a": [1.0]}), run_with({"a": [1.0]}, processor="another")
    assert "the machines differ, so the times do not compare the code" in list(compare_runs(one, other))
    assert not any("machines differ" in line for line in compare_runs(one, one))


def test_a_run_is_read_back_as_it_was_written(tmp_path):
    run = run_with({"a": [1.0, 2.0], "wrong": None})
    write_run(tmp_path / "run.json", run)
    assert read_run(tmp_path / "run.json") == run
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
