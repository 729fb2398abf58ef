"""Any PyTorch module behind the engine protocol, for the variants that only benchmarks need."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hero_rt.engines.engine import check_tensors
from hero_rt.models.submodules import Specs


class ModuleEngine:
    """`forward` takes the inputs in the order of `inputs` and returns a tensor or a tuple in the order of `outputs`."""

    def __init__(self, name: str, forward: Callable, inputs: Specs, outputs: Specs):
        self.name, self.inputs, self.outputs = name, inputs, outputs
        self._forward = forward
        self._bound: dict[str, Tensor] = {}

    def bind(self, constants: Mapping[str, Tensor]) -> None:
        check_tensors(self.name, self.inputs, constants, required=False)
        self._bound = dict(constants)

    @torch.inference_mode()
    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        given = self._bound | inputs
        check_tensors(self.name, self.inputs, given, required=True)
        out = self._forward(*(given[name] for name in self.inputs))
        return dict(zip(self.outputs, (out,) if isinstance(out, Tensor) else out, strict=True))

    def close(self) -> None:
        self._bound = {}
