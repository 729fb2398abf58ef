"""Everything a GPU machine should say, in order of worth, within a time budget: `make gpu-report`.

A step is one `python -m benchmarks run` in a process of its own, so that one that runs out of time or memory costs no
other; its JSON is written after each suite. A step whose file is there already is not run again: call it as often as
it takes, and delete a file to measure anew.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.report import write_report
from hero_rt.cli_errors import run_app
from hero_rt.errors import HeroError, UsageError

console = Console(soft_wrap=True, highlight=False)
app = typer.Typer(pretty_exceptions_enable=False)
LEAST = 30.0  # seconds: with fewer left no step is started


@dataclass(frozen=True)
class Step:
    """`arguments` of `python -m benchmarks run`."""

    name: str
    arguments: tuple[str, ...]


_256, _512 = ("--size", "256x256"), ("--size", "512x512")
_GUIDED, _50 = ("--guidance", "on"), ("--steps", "50")
STEPS = (
    Step("kernels", ("kernels", *_256, *_512)),
    Step("unet-step-256", ("unet-step", *_256, *_GUIDED, "--only", "compile")),  # needs no engine built
    Step("unet-step-256-aoti", ("unet-step", *_256, *_GUIDED, "--only", "aoti")),
    Step("end-to-end-256", ("end-to-end", *_256, *_GUIDED, *_50, "--only", "aoti")),
    Step("caching-256", ("caching", *_256, *_GUIDED)),
    Step("unet-step-256-onnxruntime", ("unet-step", *_256, *_GUIDED, "--only", "onnxruntime")),
    Step("end-to-end-256-all", ("end-to-end", *_256, "--only", "aoti", "--only", "onnxruntime")),
    Step("cold-start-256", ("cold-start", *_256, *_GUIDED, "--only", "aoti")),
    Step("long-video-256", ("long-video", *_256, "--only", "aoti")),
    Step("unet-step-512", ("unet-step", *_512, *_GUIDED, "--only", "compile", "--only", "aoti")),
    Step("end-to-end-512", ("end-to-end", *_512, *_GUIDED, *_50, "--only", "aoti")),
    Step("kernels-tune-256", ("kernels", *_256, *_GUIDED, "--tune")),
    Step(
        "unet-step-256-max-autotune",
        ("unet-step", *_256, *_GUIDED, "--only", "compile-max-autotune", "--only", "aoti-max-autotune"),
    ),
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
    failures = run_steps(STEPS, out, slug, device, lambda: time_budget - (time.monotonic() - started))
    waiting = [step.name for step in STEPS if not _file(out, step, slug).is_file()]
    console.print(f"waiting for another call: {', '.join(waiting)}" if waiting else "every step has its file")
    write_report(out, docs)
    if failures:
        raise HeroError("; ".join(failures))


def gpu_slug(device: str) -> str:
    """The GPU's name as part of a file name. Raises UsageError without one."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError("no CUDA device here; gpu-report measures GPUs (on a CPU: make bench)")
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")


def run_steps(steps: Sequence[Step], out: Path, slug: str, device: str, seconds_left: Callable[[], float]) -> list[str]:
    """Run the steps that have no file yet; returns a line for each that failed. A cut step keeps its whole suites."""
    failures = []
    for step in steps:
        path = _file(out, step, slug)
        left = seconds_left()
        if path.is_file():
            continue
        if left < LEAST:
            break
        console.print(f"{step.name}: {left:.0f} s left", markup=False)
        command = [sys.executable, "-m", "benchmarks", "run", *step.arguments, "--device", device, "--json", str(path)]
        code = _run(command, left)
        if code is None:
            console.print(f"{step.name}: cut at the end of the budget", markup=False)
            break
        if code:
            failures.append(f"{step.name} ended with exit code {code}")
    return failures


def _run(command: Sequence[str], seconds: float) -> int | None:
    """The exit code; None where it was stopped after `seconds`, with every process that it started."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _file(out: Path, step: Step, slug: str) -> Path:
    return out / f"{step.name}-{slug}.json"


def main() -> None:
    run_app(app)


if __name__ == "__main__":
    main()
