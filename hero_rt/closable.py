"""What is closed when a `with` block ends."""

from typing import Self


class Closable:
    """A context manager that closes itself."""

    def close(self) -> None:
        """Release what is open; there may be nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
