"""Closes objects when a `with` block ends."""

from typing import Self


class Closable:
    """Is a context manager whose exit calls `close`."""

    def close(self) -> None:
        """Release what is open. By default there is nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
