"""What the engines of one folder share on their GPU, as they run one after another."""

from functools import cached_property

import torch
from torch import Tensor

from hero_rt.engines.cuda import CudaStream


class Workspace:
    """One explicit stream and one scratch for activations.

    scratch_bytes: what the largest engine is expected to ask for, so that the first one's scratch fits all.
    """

    def __init__(self, device: torch.device, scratch_bytes: int = 0):
        self.device, self._expected = device, scratch_bytes
        self._scratch: Tensor | None = None

    @cached_property
    def stream(self) -> CudaStream:
        return CudaStream(self.device)

    def scratch(self, size: int) -> Tensor:
        """`size` bytes or more. Where an engine asks for more than expected, earlier ones keep the smaller scratch."""
        if self._scratch is None or self._scratch.numel() < size:
            self._scratch = torch.empty(max(size, self._expected), dtype=torch.uint8, device=self.device)
        return self._scratch

    def close(self) -> None:
        if "stream" in self.__dict__:
            self.stream.close()
            del self.stream
        self._scratch = None
