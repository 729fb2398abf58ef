"""The command `python -m benchmarks`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BaseModel, Field
from rich.console import Console

from hero_rt.cli_errors import run_app
from hero_rt.cli_options import parse_options, with_options
from hero_rt.errors import UsageError
from hero_train.evaluation_cli import ablations, alphas, evaluate

if TYPE_CHECKING:
    from benchmarks.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Benchmarks against the eager baseline: verified first, printed beside the physical limit.",
)
console = Console(soft_wrap=True, highlight=False)


class RunOptions(BaseModel):
    """Options of `run`. None asks for nothing: the device's or the suite's own default."""

    device: str | None = Field(None, description="cpu, cuda or cuda:N; default: the GPU, if any.")
    preset: str | None = Field(None, description="hero-tiny (default on a CPU) or hero-sd15 (on a GPU).")
    dtype: str | None = Field(None, description="fp32 (default on a CPU) or fp16 (on a GPU).")
    size: tuple[str, ...] = Field((), description="Canvas, WIDTHxHEIGHT; repeatable. 128x128, or 256x256 and 512x512.")
    guidance: Literal["on", "off", "both"] = Field("both", description="on, off or both.")
    steps: tuple[int, ...] = Field((), description="Denoising steps of end-to-end; repeatable.")
    frames: tuple[int, ...] = Field((), description="Clip lengths of long-video; repeatable.")
    repeats: int | None = Field(None, ge=1, description="Timed repeats; default: the suite's.")
    only: tuple[str, ...] = Field(
        (), description="Contenders beside the two baselines (aoti, compile-max-autotune, ...); repeatable."
    )
    tune: bool = Field(False, description="kernels: time every configuration of the fused kernel too.")
    cache: Path = Field(Path("build/benchmarks"), description="Where built engines are kept between runs.")

    def settings(self) -> "Settings":
        """Raises UsageError."""
        import torch

        from benchmarks.settings import Settings

        asked = self.model_dump(exclude={"device", "size", "guidance"}, exclude_defaults=True)
        if self.size:
            asked["sizes"] = [_size(text) for text in self.size]
        asked["guidance"] = {"on": (True,), "off": (False,), "both": (False, True)}[self.guidance]
        return Settings.for_device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"), **asked)


@app.command(epilog="Example: [bold]python -m benchmarks run unet-step caching --json out.json[/bold]")
@with_options(RunOptions)
def run(
    names: Annotated[list[str], typer.Argument(help="Suites, as `list` names them.")],
    json: Annotated[Path | None, typer.Option(help="Write the results here, after each case.")] = None,
    **options: Any,
) -> None:
    """Run suites; exit code 3 where anything does not match its reference."""
    settings = parse_options(RunOptions, options).settings()

    from benchmarks.registry import find_suite
    from benchmarks.runner import run_suites

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


app.command("quality", help="Forward to `hero-train evaluate`.")(evaluate)
for command in (ablations, alphas):
    app.command()(command)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise UsageError(f"--size {text!r} is not WIDTHxHEIGHT, for instance 256x256")
    return int(width), int(height)


def main() -> None:
    run_app(app)
