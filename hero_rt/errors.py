"""Failures that a user can act on. Each message is one line: the input, what was seen, the way out."""


class HeroError(Exception):
    """Base of every error raised for a reason the caller can mend. The CLIs print it without a traceback."""

    exit_code = 1


class UsageError(HeroError, ValueError):
    """An argument that cannot be satisfied: negative padding, a target smaller than its source, ..."""

    exit_code = 2


class VideoError(HeroError):
    """A clip that cannot be read or written: missing, not a video, truncated, empty, disk full."""


class ParityError(HeroError):
    """An engine whose numbers differ from the FP32 reference by more than its threshold."""

    exit_code = 3


class EngineError(HeroError):
    """An engine folder that does not fit: other profile, library, GPU, or files changed since the build."""

    exit_code = 4


class Cancelled(HeroError):
    """A session that was cancelled between two steps."""

    exit_code = 130
