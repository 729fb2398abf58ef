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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.contenders.built import check_available
from benchmarks.report import write_report
from benchmarks.schema import read_run
from benchmarks.settings import Settings
from hero_rt.errors import EngineError, HeroError, UsageError

LEAST = 30.0  # seconds: with fewer left no step is started
PAGE = 60.0  # seconds, for the page
WHOLE = 0.9  # of a call's seconds: a step that got so much of them and had no case does not fit a call
_AOTI, _TENSORRT = "--only aoti", "--only tensorrt --only tensorrt-rtx"
STEPS = {  # name: arguments of `python -m benchmarks run`
    "kernels": "kernels --size 256x256 --size 512x512",
    "unet-step-256": f"unet-step --size 256x256 --guidance on --only compile {_AOTI}",
    "end-to-end-256": f"end-to-end --size 256x256 --guidance on --steps 50 {_AOTI}",
    "caching-256": "caching --size 256x256 --guidance on",
    "unet-step-512": "unet-step --size 512x512 --guidance on --only compile",  # needs no engine built
    "kernels-tune-256": "kernels --size 256x256 --guidance on --tune",
    "unet-step-256-onnxruntime": f"unet-step --size 256x256 --guidance on {_AOTI} --only onnxruntime",
    "unet-step-256-tensorrt": f"unet-step --size 256x256 --guidance on {_AOTI} {_TENSORRT}",
    "cold-start-256": f"cold-start --size 256x256 --guidance on {_AOTI} --repeats 1",
    "callers-256": f"callers --size 256x256 {_AOTI}",
    "long-video-256": f"long-video --size 256x256 {_AOTI} --frames 16 --frames 64",
    "end-to-end-512": f"end-to-end --size 512x512 --guidance on --steps 50 {_AOTI}",
    "unet-step-512-aoti": f"unet-step --size 512x512 --guidance on --only compile {_AOTI}",
    "unet-step-256-fp32": "unet-step --size 256x256 --guidance on --dtype fp32 --only compile",
    "end-to-end-256-every-form": f"end-to-end --size 256x256 {_AOTI} --only onnxruntime {_TENSORRT}",
    "end-to-end-512-every-form": f"end-to-end --size 512x512 {_AOTI}",
    "unet-step-256-max-autotune": f"unet-step --size 256x256 --guidance on {_AOTI} --only compile-max-autotune",
    "unet-step-256-aoti-max-autotune": f"unet-step --size 256x256 --guidance on {_AOTI} --only aoti-max-autotune",
}
# left out where none of these formats runs
NEEDS = {"unet-step-256-onnxruntime": ["onnxruntime"], "unet-step-256-tensorrt": ["tensorrt", "tensorrt-rtx"]}


def report_gpu(time_budget: float, out: Path, docs: Path, device: str, say: Callable[[str], None]) -> None:
    """Run the steps that have no case yet until `time_budget` seconds are up, then make the page.

    Raises UsageError without a GPU, HeroError where a step failed.
    """
    import torch

    deadline = time.monotonic() + time_budget - PAGE
    if not torch.cuda.is_available():
        raise UsageError("no CUDA device here; gpu-report measures GPUs (on a CPU: make bench)")
    slug = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")
    steps = {}
    for name, arguments in STEPS.items():
        if reason := why_absent(NEEDS.get(name, []), device):
            say(f"{name}: left out: {reason}")
        else:
            steps[out / f"{name}-{slug}.json"] = f"{arguments} --device {device}"
    failures = run_steps(steps, lambda: deadline - time.monotonic(), say)
    waiting = [path.stem for path in steps if not _cases(path)]
    say(f"waiting for another call: {', '.join(waiting)}" if waiting else "every step has its file")
    for line in what_is_missing(steps):
        say(line)
    write_report(out, docs)
    if failures:
        raise HeroError("; ".join(failures))


def why_absent(formats: Sequence[str], device: str) -> str:
    """Why none of the formats runs here; nothing where one does, or there are none."""
    reasons = []
    for format in formats:
        try:
            check_available(Settings(device=device), format)
        except EngineError as error:
            reasons.append(str(error))
    return "; ".join(reasons) if len(reasons) == len(formats) else ""


def what_is_missing(paths: Iterable[Path]) -> Iterator[str]:
    """A line for each file that ends early, and for each contender that a file has no figures of."""
    for path in paths:
        again = f"delete {path} to run its step again"
        for suite in read_run(path).suites if _cases(path) else []:  # else it waits for another call
            if not suite.finished:
                yield f"{path.stem} ends early, after {len(suite.cases)} cases; {again}"
            yield from (f"{path.stem} lacks {lost.name}: {lost.reason}; {again}" for lost in suite.unavailable)


def run_steps(steps: Mapping[Path, str], seconds_left: Callable[[], float], say: Callable[[str], None]) -> list[str]:
    """Run the steps whose file has no case yet; returns a line for each that failed. steps: arguments by file.

    Those that failed without any, or did not fit a whole budget, come last: they must not keep out the others.
    """
    failures = []
    whole = seconds_left()
    for path in sorted((path for path in steps if not _cases(path)), key=Path.is_file):
        left = seconds_left()
        if left < LEAST:
            break
        say(f"{path.stem}: {left:.0f} s left")
        code = _run([sys.executable, "-m", "benchmarks", "run", *steps[path].split(), "--json", str(path)], left)
        if code is None:
            say(f"{path.stem}: cut at the end of the budget, after {_cases(path)} cases")
            if not _cases(path) and left < WHOLE * whole:
                path.unlink(missing_ok=True)  # it had what others left: its place is kept
            break
        if code:
            failures.append(f"{path.stem} ended with exit code {code}")
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
