"""Defines the command `python -m benchmarks`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.settings import Settings
from benchmarks.suites import SUITES, find_suite
from hero_rt.cli_errors import run_app
from hero_rt.cli_options import parse_options, with_options
from hero_train.cli import ablations, alphas, evaluate

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Time engines against the eager baseline. Results are verified first; times stand beside the physical limit.",
)
console = Console(soft_wrap=True, highlight=False, markup=False)


@app.command(epilog="Example: [bold]python -m benchmarks run unet-step caching --json out.json[/bold]")
@with_options(Settings)
def run(
    names: Annotated[list[str], typer.Argument(help="Suites, as `list` names them.")],
    json: Annotated[Path | None, typer.Option(help="Write the results here, after each case.")] = None,
    **options: Any,
) -> None:
    """Run suites. The exit code is 3 if a result does not match its reference."""
    settings = parse_options(Settings, options)
    suites = {name: find_suite(name) for name in names}

    from benchmarks.runner import run_suites

    run_suites(suites, settings, json, console.print)


@app.command("list")
def list_suites() -> None:
    """Show every suite."""
    for name, summary in SUITES.items():
        console.print(f"{name:12} {summary}")


@app.command(epilog="Example: [bold]python -m benchmarks compare before.json after.json[/bold]")
def compare(
    before: Annotated[Path, typer.Argument(help="A result of `run --json`.")],
    after: Annotated[Path, typer.Argument(help="Another, of the same machine.")],
) -> None:
    """Show what became faster and slower. A change within both spreads is marked as noise."""
    from benchmarks.compare import compare_runs
    from benchmarks.schema import read_run

    for line in compare_runs(read_run(before), read_run(after)):
        console.print(line)


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="Folder of result files.")] = Path("benchmarks/results"),
    docs: Annotated[Path, typer.Option(help="Folder of the page, and of the notes that it includes.")] = Path("docs"),
    plots: Annotated[bool, typer.Option("--plots", help="Draw DOCS/images/*.png too, and show them.")] = False,
) -> None:
    """Write DOCS/performance.md from the results."""
    from benchmarks.report import write_report

    write_report(results, docs, plots)
    console.print(f"wrote {docs / 'performance.md'}")


app.command("quality", help="Forward to `hero-train evaluate`.")(evaluate)
for command in (ablations, alphas):
    app.command()(command)


def main() -> None:
    run_app(app)
