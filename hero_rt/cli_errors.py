"""Ends both commands with an exit code, and with one line in place of a traceback."""

import signal
import sys
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from hero_rt.errors import HeroError

# 0 ok, 1 failure, 2 usage, 3 parity failure, 4 incompatible engine; 130 and 143 for a signal, as shells have it
INTERRUPTED, TERMINATED = 130, 143
_ClickException: Any = typer.BadParameter.__mro__[2]  # of click, or of the copy that newer versions of Typer carry


def run_app(app: typer.Typer) -> None:
    """Run a Typer app. A HeroError becomes one line on stderr and its exit code."""
    console = Console(stderr=True, soft_wrap=True)
    # what stops a container or a job: as after Ctrl-C, nothing half-written stays and no build runs on
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        if (code := app(standalone_mode=False)) != INTERRUPTED:
            sys.exit(code)
        raise KeyboardInterrupt  # which Typer turned into an exit code
    except _ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # it has printed the help
            sys.exit(error.exit_code)
        message = " ".join(error.format_message().replace("Value error, ", "").split())  # pydantic's words, not ours
        hint = f"; see {error.ctx.command_path} --help" if getattr(error, "ctx", None) else ""
        console.print(Text.assemble(("error: ", "bold red"), message.rstrip("."), hint))
        sys.exit(error.exit_code)
    except HeroError as error:
        console.print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        console.print("interrupted")
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> NoReturn:
    sys.exit(TERMINATED)
