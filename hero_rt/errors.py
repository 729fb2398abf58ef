"""Errors that a user can act on. Each message is one line: the input, what was seen, the remedy."""

from pathlib import Path


class HeroError(Exception):
    """Base of every error that the caller can mend. Both commands print it without a traceback."""

    exit_code = 1


class UsageError(HeroError, ValueError):
    """Raised for an argument that cannot be satisfied: negative padding, a target smaller than its source, ..."""

    exit_code = 2


class VideoError(HeroError):
    """Raised for a clip that cannot be read or written: missing, not a video, truncated, empty, disk full."""


class ParityError(HeroError):
    """Raised for an engine that differs from the FP32 reference by more than its limit."""

    exit_code = 3


class EngineError(HeroError):
    """Raised for engines that do not fit: another profile, library or GPU, or files changed since the build."""

    exit_code = 4


class Cancelled(HeroError):
    """Raised by a session that was cancelled between two steps."""

    exit_code = 130


def first_line(error: Exception) -> str:
    """Return the first line of a library's message."""
    return str(error).strip().splitlines()[0]


def check_engine_folder(folder: Path) -> None:
    """Raise EngineError for a folder that does not exist."""
    if not folder.is_dir():
        raise EngineError(f"engine folder {folder} does not exist; build one: hero-export build-engines --help")
