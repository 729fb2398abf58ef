"""Writes files that appear complete or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: Any) -> None:
    """Write `data` (bytes or a buffer) as `path`. After a failure `path` is as it was. Raises OSError."""
    with atomic_path(path) as part:
        part.write_bytes(memoryview(data))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a scratch folder beside `path`, for a library that writes files itself.

    The file takes its place when the block ends; on any failure `path` is as it was. The scratch folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        yield Path(scratch, path.name)
        publish(Path(scratch, path.name), path)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its name, in place of a file or an empty folder. Raises OSError."""
    if temporary.is_file():
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # some file systems report a full disk only here
    os.replace(temporary, path)
