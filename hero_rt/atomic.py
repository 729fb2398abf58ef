"""Files that appear whole or not at all."""

import os
import secrets
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: Any) -> None:
    """`data` (bytes, or anything with their buffer) as `path`; on any failure `path` is as it was. Raises OSError."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(memoryview(data))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
