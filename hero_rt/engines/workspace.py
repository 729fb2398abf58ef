"""What the engines of one folder share on a device."""

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from hero_rt.engines.cuda import CudaStream

_T = TypeVar("_T")


class Workspace:
    """One explicit stream, one scratch for activations, and each file loaded once.

    lock: held while work is put on the stream, so that threads' runs follow one another.
    scratch_bytes: what the largest engine is expected to ask for, so that the first one's scratch fits all.
    """

    def __init__(self, device: torch.device, scratch_bytes: int = 0):
        self.device, self._expected = device, scratch_bytes
        self._scratch: Tensor | None = None
        self._loaded: dict[Path, Any] = {}
        self.lock = threading.RLock()

    @cached_property
    def stream(self) -> CudaStream:
        return CudaStream(self.device)

    def scratch(self, size: int) -> Tensor:
        """`size` bytes or more. Where an engine asks for more than expected, earlier ones keep the smaller scratch."""
        if self._scratch is None or self._scratch.numel() < size:
            self._scratch = torch.empty(max(size, self._expected), dtype=torch.uint8, device=self.device)
        return self._scratch

    def loaded(self, path: Path, load: Callable[[], _T]) -> _T:
        """What `load` makes of the file, once for all the shapes that it serves."""
        if path not in self._loaded:
            self._loaded[path] = load()
        return self._loaded[path]

    def close(self) -> None:
        self._loaded.clear()
        if "stream" in self.__dict__:
            self.stream.close()
            del self.stream
        self._scratch = None
