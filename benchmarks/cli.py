"""The command `python -m benchmarks`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.quality.cli import ablations, alphas, quality
from hero_rt.cli_errors import run_app
from hero_rt.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Benchmarks against the eager baseline: verified first, printed beside the physical limit.",
)
console = Console(soft_wrap=True, highlight=False)


@app.command(epilog="Example: [bold]python -m benchmarks run unet-step caching --json out.json[/bold]")
def run(
    names: Annotated[list[str], typer.Argument(help="Suites, as `list` names them.")],
    json: Annotated[Path | None, typer.Option(help="Write the results here, after each case.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: the GPU, if any.")] = None,
    preset: Annotated[str | None, typer.Option(help="hero-tiny (default on a CPU) or hero-sd15 (on a GPU).")] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32 (default on a CPU) or fp16 (on a GPU).")] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="Canvas, WIDTHxHEIGHT; repeatable. 128x128, or 256x256 and 512x512.")
    ] = None,
    guidance: Annotated[str, typer.Option(help="on, off or both.")] = "both",
    steps: Annotated[list[int] | None, typer.Option(help="Denoising steps of end-to-end; repeatable.")] = None,
    frames: Annotated[list[int] | None, typer.Option(help="Clip lengths of long-video; repeatable.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Timed repeats; default: the suite's.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Contenders beside the two baselines (aoti, compile-max-autotune, ...); repeatable."),
    ] = None,
    tune: Annotated[bool, typer.Option(help="kernels: time every configuration of the fused kernel too.")] = False,
    cache: Annotated[Path, typer.Option(help="Where built engines are kept between runs.")] = Path("build/benchmarks"),
) -> None:
    """Run suites; exit code 3 where anything does not match its reference."""
    import torch

    from benchmarks.registry import find_suite
    from benchmarks.runner import run_suites
    from benchmarks.settings import Settings

    if guidance not in ("on", "off", "both"):
        raise UsageError(f"guidance {guidance!r} is not one of on, off, both")
    settings = Settings.for_device(
        device or ("cuda" if torch.cuda.is_available() else "cpu"),
        preset=preset,
        dtype=dtype,
        sizes=[_size(text) for text in size] if size else None,
        guidance={"on": (True,), "off": (False,), "both": (False, True)}[guidance],
        steps=steps,
        frames=frames,
        repeats=repeats,
        only=only,
        tune=tune,
        cache=cache,
    )
    run_suites([find_suite(name) for name in names], settings, json, lambda line: console.print(line, markup=False))


@app.command("list")
def list_suites() -> None:
    """Show every suite."""
    from benchmarks.registry import SUITES

    for suite in SUITES:
        console.print(f"{suite.name:12} {suite.summary}", markup=False)


@app.command(epilog="Example: [bold]python -m benchmarks compare before.json after.json[/bold]")
def compare(
    before: Annotated[Path, typer.Argument(help="A result of `run --json`.")],
    after: Annotated[Path, typer.Argument(help="Another, of the same machine.")],
) -> None:
    """Show what became faster and slower; a change within both spreads is marked as noise."""
    from benchmarks.compare import compare_runs
    from benchmarks.schema import read_run

    for line in compare_runs(read_run(before), read_run(after)):
        console.print(line, markup=False)


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="Folder of result files.")] = Path("benchmarks/results"),
    docs: Annotated[Path, typer.Option(help="Folder of the page, its plots and the notes put into it.")] = Path("docs"),
) -> None:
    """Write docs/performance.md and its plots from the committed results."""
    from benchmarks.report import write_report

    write_report(results, docs)
    console.print(f"wrote {docs / 'performance.md'}", markup=False)


for command in (quality, ablations, alphas):
    app.command()(command)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise UsageError(f"--size {text!r} is not WIDTHxHEIGHT, for instance 256x256")
    return int(width), int(height)


def main() -> None:
    run_app(app)
