"""Everything a GPU machine should say, in order of worth, within a time budget: `make gpu-report`.

A step is one `python -m benchmarks run` in a process of its own, so that one that runs out of time or memory costs no
other; its JSON is written after each case. A step whose file holds a case is not run again, cut or not, so that no step
can hold up the others: call it as often as it takes, and delete a file to measure anew (what one lacks is said at the
end). Engines that `make gpu-engines` built are used, others are built. The last minute of a budget is the page's.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.contenders.built import check_available
from benchmarks.report import write_report
from benchmarks.schema import read_run
from benchmarks.settings import Settings
from hero_rt.cli_errors import run_app
from hero_rt.errors import EngineError, HeroError, UsageError

console = Console(soft_wrap=True, highlight=False)
app = typer.Typer(pretty_exceptions_enable=False)
LEAST = 30.0  # seconds: with fewer left no step is started
PAGE = 60.0  # seconds, for the page and its plots
WHOLE = 0.9  # of a call's seconds: a step that got so much of them and had no case does not fit a call


@dataclass(frozen=True)
class Step:
    """`arguments` of `python -m benchmarks run`; `formats`: left out where none of them runs."""

    name: str
    arguments: tuple[str, ...]
    formats: tuple[str, ...] = ()


_256, _512 = ("--size", "256x256"), ("--size", "512x512")
_GUIDED, _50 = ("--guidance", "on"), ("--steps", "50")
_AOTI, _COMPILE = ("--only", "aoti"), ("--only", "compile")
_ORT, _TENSORRT = ("--only", "onnxruntime"), ("--only", "tensorrt", "--only", "tensorrt-rtx")
STEPS = (
    Step("kernels", ("kernels", *_256, *_512)),
    Step("unet-step-256", ("unet-step", *_256, *_GUIDED, *_COMPILE, *_AOTI)),
    Step("end-to-end-256", ("end-to-end", *_256, *_GUIDED, *_50, *_AOTI)),
    Step("caching-256", ("caching", *_256, *_GUIDED)),
    Step("unet-step-512", ("unet-step", *_512, *_GUIDED, *_COMPILE)),  # needs no engine built
    Step("kernels-tune-256", ("kernels", *_256, *_GUIDED, "--tune")),
    Step("unet-step-256-onnxruntime", ("unet-step", *_256, *_GUIDED, *_AOTI, *_ORT), ("onnxruntime",)),
    Step("unet-step-256-tensorrt", ("unet-step", *_256, *_GUIDED, *_AOTI, *_TENSORRT), ("tensorrt", "tensorrt-rtx")),
    Step("cold-start-256", ("cold-start", *_256, *_GUIDED, *_AOTI, "--repeats", "1")),
    Step("long-video-256", ("long-video", *_256, *_AOTI, "--frames", "16", "--frames", "64")),
    Step("end-to-end-512", ("end-to-end", *_512, *_GUIDED, *_50, *_AOTI)),
    Step("unet-step-512-aoti", ("unet-step", *_512, *_GUIDED, *_COMPILE, *_AOTI)),
    Step("unet-step-256-fp32", ("unet-step", *_256, *_GUIDED, "--dtype", "fp32", *_COMPILE)),
    Step("end-to-end-256-every-form", ("end-to-end", *_256, *_AOTI, *_ORT, *_TENSORRT)),
    Step("end-to-end-512-every-form", ("end-to-end", *_512, *_AOTI)),
    Step("unet-step-256-max-autotune", ("unet-step", *_256, *_GUIDED, *_AOTI, "--only", "compile-max-autotune")),
    Step("unet-step-256-aoti-max-autotune", ("unet-step", *_256, *_GUIDED, *_AOTI, "--only", "aoti-max-autotune")),
)


@app.command()
def report(
    time_budget: Annotated[float, typer.Option(help="Seconds for this call; what does not fit waits for the next.")],
    out: Annotated[Path, typer.Option(help="Folder of the JSON files.")] = Path("benchmarks/results"),
    docs: Annotated[Path, typer.Option(help="Folder of the page and its plots, made anew at the end.")] = Path("docs"),
    device: Annotated[str, typer.Option(help="cuda or cuda:N.")] = "cuda",
) -> None:
    """Run the suites on a GPU in order of worth, until the time is up."""
    started = time.monotonic()
    slug = gpu_slug(device)
    deadline = started + time_budget - PAGE
    absent = {step.name: reason for step in STEPS if (reason := why_absent(step, device))}
    for name, reason in absent.items():
        console.print(f"{name}: left out: {reason}", markup=False)
    steps = [step for step in STEPS if step.name not in absent]
    failures = run_steps(steps, out, slug, device, lambda: deadline - time.monotonic())
    waiting = [step.name for step in steps if not _cases(_file(out, step, slug))]
    console.print(f"waiting for another call: {', '.join(waiting)}" if waiting else "every step has its file")
    for line in what_is_missing(_file(out, step, slug) for step in steps):
        console.print(line, markup=False)
    write_report(out, docs)
    if failures:
        raise HeroError("; ".join(failures))


def gpu_slug(device: str) -> str:
    """The GPU's name as part of a file name. Raises UsageError without one."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError("no CUDA device here; gpu-report measures GPUs (on a CPU: make bench)")
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")


def why_absent(step: Step, device: str) -> str:
    """Why none of the step's formats runs here; nothing where one does, or it names none."""
    reasons = []
    for format in step.formats:
        try:
            check_available(Settings.for_device(device), format)
        except EngineError as error:
            reasons.append(str(error))
    return "; ".join(reasons) if len(reasons) == len(step.formats) else ""


def what_is_missing(paths: Iterable[Path]) -> Iterator[str]:
    """A line for each file that ends early, and for each contender that a file has no figures of."""
    for path in paths:
        again = f"delete {path} to run its step again"
        for suite in read_run(path).suites if path.is_file() else []:
            if not suite.cases:  # waits for another call
                continue
            if not suite.finished:
                yield f"{path.stem} ends early, after {len(suite.cases)} cases; {again}"
            yield from (f"{path.stem} lacks {lost.name}: {lost.reason}; {again}" for lost in suite.unavailable)


def run_steps(steps: Sequence[Step], out: Path, slug: str, device: str, seconds_left: Callable[[], float]) -> list[str]:
    """Run the steps that have no case yet; returns a line for each that failed.

    Those that failed without any, or did not fit a whole budget, come last: they must not keep out the others.
    """
    failures = []
    whole = seconds_left()
    waiting = [step for step in steps if not _cases(_file(out, step, slug))]
    for step in sorted(waiting, key=lambda step: _file(out, step, slug).is_file()):
        path, left = _file(out, step, slug), seconds_left()
        if left < LEAST:
            break
        console.print(f"{step.name}: {left:.0f} s left", markup=False)
        command = [sys.executable, "-m", "benchmarks", "run", *step.arguments, "--device", device, "--json", str(path)]
        code = _run(command, left)
        if code is None:
            console.print(f"{step.name}: cut at the end of the budget, after {_cases(path)} cases", markup=False)
            if not _cases(path) and left < WHOLE * whole:
                path.unlink(missing_ok=True)  # it had what others left: its place is kept
            break
        if code:
            failures.append(f"{step.name} ended with exit code {code}")
    return failures


def _cases(path: Path) -> int:
    """How many a step has measured."""
    return sum(len(suite.cases) for suite in read_run(path).suites) if path.is_file() else 0


def _run(command: Sequence[str], seconds: float) -> int | None:
    """The exit code; None where it was stopped after `seconds`, with every process that it started."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:  # an interrupt too: what is left of it would hold the GPU
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _file(out: Path, step: Step, slug: str) -> Path:
    return out / f"{step.name}-{slug}.json"


def main() -> None:
    run_app(app)


if __name__ == "__main__":
    main()
