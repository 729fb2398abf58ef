"""Links a shared library under another name, which some loaders require."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def library_as(name: str, library: Path, variable: str) -> Iterator[None]:
    """Put a link `name` to `library` into a new folder, and list the folder first in the environment's `variable`."""
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
