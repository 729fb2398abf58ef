"""Draws noise that depends on seed, purpose, frame and step only, not on the order of execution or the device."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_BLOCK_BYTES = 64 * 2**20


class Purpose(IntEnum):
    """The use of a random number. The values must not change, because every seed would then give other noise."""

    INITIAL = 0
    ETA = 1
    DECODE = 2


def frame_noise(seed: int, purpose: Purpose, frames: range, shape: Sequence[int], steps: range | None = None) -> Tensor:
    """Draw standard normal noise, FP32 [F, *shape] on the CPU, one independent stream a frame.

    frames: positions in the clip. With `steps` the result is [len(steps), F, *shape]. The streams are those of Philox
    (Salmon et al. 2011), a counter-based generator: key (seed, purpose), counter (step, frame).
    """
    of_steps = [
        np.stack([_stream(seed, purpose, frame, step).standard_normal(shape, np.float32) for frame in frames])
        for step in (steps or (0,))
    ]
    return torch.from_numpy(of_steps[0] if steps is None else np.stack(of_steps))


def _stream(seed: int, purpose: Purpose, frame: int, step: int) -> np.random.Generator:
    key, counter = np.array([seed, purpose], np.uint64), np.array([0, 0, step, frame], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class StepNoise(TorchFunctionMode):
    """Noise of a stochastic sampler's steps. Inside `with`, `torch.randn` returns this step's noise.

    diffusers' schedulers draw inside `step`, some of them from a generator only. This mode serves all of them. Noise is
    drawn on the CPU for many steps at once, and copied to the device once for these steps. A sampler that draws nothing
    costs nothing.
    """

    def __init__(self, seed: int, frames: range, num_steps: int):
        super().__init__()
        self.step = 0
        self._seed, self._frames, self._num_steps = seed, frames, num_steps
        self._block, self._first = torch.empty(0), 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.randn:
            return func(*args, **kwargs)
        return self._of_step(tuple(args[0]), kwargs["device"]).to(kwargs["dtype"])

    def _of_step(self, shape: tuple[int, ...], device: Any) -> Tensor:
        if not self._first <= self.step < self._first + len(self._block):
            steps = max(1, _BLOCK_BYTES // (4 * int(np.prod(shape))))
            self._first = self.step
            drawn = range(self.step, min(self.step + steps, self._num_steps))
            self._block = frame_noise(self._seed, Purpose.ETA, self._frames, shape[1:], drawn).to(device)
        return self._block[self.step - self._first]
