"""Holds what the engines of one folder share on a device."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


class Workspace:
    """Holds one CUDA stream, one memory pool of graphs, one scratch for activations, and each file, loaded once.

    lock: hold it while you queue work on the stream. Runs of several threads then follow one another.
    scratch_bytes: the scratch that the largest engine needs, if known. The first allocation then fits every engine.
    """

    def __init__(self, device: torch.device, scratch_bytes: int = 0):
        self.device, self._expected = device, scratch_bytes
        self._scratch: Tensor | None = None
        self._loaded: dict[Path, Any] = {}
        self.lock = threading.RLock()

    @cached_property
    def stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self.device)

    @cached_property
    def graph_pool(self) -> Any:
        """The memory of all graphs. They run one after another on one stream, which copies out their results."""
        return torch.cuda.graph_pool_handle()

    @contextmanager
    def on_stream(self) -> Iterator[None]:
        """Queue the work of the `with` block on this workspace's stream instead of PyTorch's current stream.

        The block's work starts after the work that the current stream already has. Work that is queued on the current
        stream later starts after the block's work. The host does not wait.
        """
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)

    def scratch(self, size: int) -> Tensor:
        """Return `size` bytes or more. Engines that were opened before keep a smaller scratch."""
        if self._scratch is None or self._scratch.numel() < size:
            self._scratch = torch.empty(max(size, self._expected), dtype=torch.uint8, device=self.device)
        return self._scratch

    def loaded(self, path: Path, load: Callable[[], _T]) -> _T:
        """Return what `load` makes of the file. It is loaded once for all its shapes."""
        if path not in self._loaded:
            self._loaded[path] = load()
        return self._loaded[path]

    def close(self) -> None:
        if "stream" in self.__dict__:
            self.stream.synchronize()
        self._loaded.clear()
        self._scratch = None
