"""How both commands end: exit codes, and one line instead of a traceback."""

import sys

import click
import typer
from rich.console import Console
from rich.text import Text

from hero_rt.errors import HeroError

# 0 ok, 1 failure, 2 usage, 3 parity failure, 4 incompatible engine; 130 interrupted, as shells have it
INTERRUPTED = 130


def run_app(app: typer.Typer) -> None:
    """Run a Typer app; a HeroError becomes its one line on stderr and its exit code."""
    console = Console(stderr=True, soft_wrap=True)
    try:
        app()
    except HeroError as error:
        console.print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        console.print("interrupted")
        sys.exit(INTERRUPTED)
