"""Runs suites: environment and ceilings first, then each case. The file is written after each case."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from benchmarks.context import Context
from benchmarks.environment import read_clocks, read_environment
from benchmarks.roofline import measure_ceilings
from benchmarks.schema import Case, Ceilings, Run, SuiteResult, milliseconds, write_run
from benchmarks.settings import Settings
from hero_rt.errors import ParityError, UsageError

SuiteRun = Callable[[Context], Iterator[Case]]


def run_suites(suites: Mapping[str, SuiteRun], settings: Settings, out: Path | None, say: Callable[[str], None]) -> Run:
    """Run `suites` in order. `out` is written after each case, so a stopped run keeps its finished cases.

    Raises UsageError if the device does not exist, and at the end ParityError if a result did not match.
    """
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"no CUDA device here for --device {settings.device}; run with --device cpu")
    torch.backends.cudnn.allow_tf32 = False  # the FP32 reference is computed without TF32
    environment = read_environment(device)
    ceilings = measure_ceilings(device, settings.dtype)
    environment.clocks = read_clocks(device)  # right after load: an idle device lowers its clock
    say(f"{environment.machine}: {_rates(ceilings)}")
    run = Run(environment=environment, settings=settings.model_dump(mode="json"), ceilings=ceilings, suites=[])

    def keep(result: SuiteResult, context: Context, started: float) -> None:
        result.seconds, result.clocks_after = round(time.perf_counter() - started, 1), read_clocks(device)
        result.unavailable, result.operators = context.unavailable, context.operators
        if out is not None:
            write_run(out, run)

    for name, suite in suites.items():
        state = SuiteResult(suite=name, finished=False), Context(settings, run.ceilings, say), time.perf_counter()
        result, context, _ = state
        run.suites.append(result)
        keep(*state)
        for case in suite(context):
            result.cases.append(case)
            for line in lines(name, case):
                say(line)
            keep(*state)
        result.finished = True
        # measured again: ceilings of a slow minute would make every share too high
        run.raise_ceilings(measure_ceilings(device, settings.dtype))
        keep(*state)
    if run.ceilings != ceilings:
        say(f"measured after the suites: {_rates(run.ceilings)}; shares of the limit are written for these")
    if mismatches := [name for result in run.suites for name in result.mismatches]:
        more = f" (and {len(mismatches) - 1} more)" if len(mismatches) > 1 else ""
        raise ParityError(f"{mismatches[0]} differs from the reference and was not timed{more}")
    return run


def _rates(ceilings: Ceilings) -> str:
    return f"{ceilings.flops_per_s / 1e12:.3g} TFLOP/s {ceilings.dtype}, {ceilings.bytes_per_s / 1e9:.4g} GB/s copied"


def lines(suite: str, case: Case) -> Iterator[str]:
    """Yield a line per contender: median, IQR, share of the limit, speed against the baseline, error."""
    for m in case.measurements:
        head = f"{suite}  {case.name}  {m.name:22}"
        error = f"{m.verification.relative_l2:.0e}"
        if m.timing is None:
            yield f"{head} MISMATCH {error} against {m.verification.against}: not timed"
            continue
        share = f"  {m.share_of_limit:.2f} of limit" if m.share_of_limit else ""
        spread = "one run" if m.timing.iqr is None else f"±{milliseconds(m.timing.iqr)}"
        ratio = f"  {m.ratio:.2f}x {case.baseline}" if m.ratio else ""
        frames = f"  {rate:.1f} frames/s" if (rate := m.figures.get("frames_per_s")) else ""
        yield f"{head} {milliseconds(m.timing.median):>10} ms {spread}{share}{ratio}{frames}  match {error}"
