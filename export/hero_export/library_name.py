"""A library under a name that whoever looks for it asks for, and its own folder has not."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def library_as(name: str, library: Path, variable: str) -> Iterator[None]:
    """While open, the first folder that the environment's `variable` lists has `library` as `name`."""
    before = os.environ.get(variable)
    with tempfile.TemporaryDirectory(prefix="hero-library-") as folder:
        Path(folder, name).symlink_to(library)
        os.environ[variable] = os.pathsep.join(filter(None, (folder, before)))
        try:
            yield
        finally:
            if before is None:
                del os.environ[variable]
            else:
                os.environ[variable] = before
