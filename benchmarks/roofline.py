"""The physical limit: operations and bytes that must be, over what the machine was seen to reach.

Operations and bytes are counted on tensors without data: any preset and size, in a second.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import hero_kernels  # noqa: F401  (registers torch.ops.hero)
from benchmarks.schema import Ceilings, Work
from benchmarks.timing import CALL, Clock, step_clock
from hero_rt.engines.manifest import DTYPES
from hero_rt.models.hero import HeroModel, make_part
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import SUBMODULES, Specs, submodule_io
from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import Profile

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # several times the last-level cache
SHORTEST = 8  # repeats; the shortest counts: a ceiling is what was reached once


def measure_ceilings(device: torch.device, dtype: str) -> Ceilings:
    """Time a large product and a large copy. Random operands: a product of zeros draws less power and clocks higher."""
    clock = step_clock(device)
    size, num_bytes = MATMUL_SIZE[device.type], COPY_BYTES[device.type]
    a, b = (torch.randn(size, size, device=device).to(DTYPES[dtype]) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.randint(256, (num_bytes,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return Ceilings(
        dtype=dtype,
        flops_per_s=2 * size**3 / _shortest(clock, lambda: torch.mm(a, b, out=product)),
        matmul_size=size,
        bytes_per_s=2 * num_bytes / _shortest(clock, lambda: target.copy_(source)),
        copy_bytes=num_bytes,
    )


def _shortest(clock: Clock, call: CALL) -> float:
    for _ in range(3):
        call()
    return min(clock(call)[0] for _ in range(SHORTEST))


def _temporal_attention_flops(q: Sequence[int], *_: Any, **__: Any) -> int:
    """Two products of F x F x d a head and token, two operations a multiply-add: 4 B S F² C. q: [B, F, S, C]."""
    batch, frames, tokens, channels = q
    return 4 * batch * tokens * frames**2 * channels


def _no_products(*_: Any, **__: Any) -> int:
    """Elementwise, as everything is that torch's counter leaves out."""
    return 0


FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.hero.temporal_attention_im3: _temporal_attention_flops,
    torch.ops.hero.im3_blend: _no_products,
}


class _ReadParameters(TorchDispatchMode):
    """Notes which of a module's parameters any operation reads: a submodule may hold some that it does not."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self._of_module = {id(p): p for p in module.parameters()}
        self.seen: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in torch.utils._pytree.tree_leaves((args, kwargs or {})):
            if id(value) in self._of_module:
                self.seen[id(value)] = value
        return func(*args, **(kwargs or {}))


def work_of(module: nn.Module, inputs: Sequence[Tensor]) -> Work:
    """Operations of the matrix products and convolutions; bytes of every parameter read, input and output, once each.

    Activations between layers are not counted: a perfect implementation would keep them on the chip. So the bytes
    are the fewest possible and the limit holds for any fusion.
    """
    reads, counter = _ReadParameters(module), FlopCounterMode(display=False, custom_mapping=FORMULAS)
    with torch.no_grad(), reads, counter:
        out = module(*inputs)
    outputs = (out,) if isinstance(out, Tensor) else out
    num_bytes = sum(tensor.nbytes for tensor in (*reads.seen.values(), *inputs, *outputs))
    return Work(flops=counter.get_total_flops(), bytes=num_bytes)


def meta_model(config: HeroConfig, dtype: torch.dtype) -> HeroModel:
    """The model's shapes with no data behind them."""

    def make(part: str) -> nn.Module:
        with torch.device("meta"):
            return make_part(config, part)

    return HeroModel(config, make, dtype, "meta")


@functools.cache
def submodule_work(preset: str, dtype: str, submodule: str, profile: Profile) -> Work:
    """One call of one submodule."""
    model = meta_model(HeroConfig.from_preset(preset), DTYPES[dtype])
    inputs, _ = submodule_io(submodule, model.config, profile, model.dtype)
    tensors = [torch.empty(spec.shape, dtype=spec.dtype, device="meta") for spec in inputs.values()]
    return work_of(build_submodule(model, submodule, profile), tensors)


def clip_work(preset: str, dtype: str, profile: Profile, steps: int) -> Work:
    """One window from frames to frames: everything constant once, `steps` denoising steps, the decoder."""
    once = [submodule_work(preset, dtype, name, profile) for name in SUBMODULES if name != "unet_step"]
    return functools.reduce(Work.__add__, once, submodule_work(preset, dtype, "unet_step", profile) * steps)


def boundary_bytes(preset: str, dtype: str, profile: Profile) -> int:
    """Every tensor that a submodule takes or returns, each once: outputs that others read are the same tensors."""
    config = HeroConfig.from_preset(preset)
    specs: Specs = {}
    for name in SUBMODULES:
        inputs, outputs = submodule_io(name, config, profile, DTYPES[dtype])
        specs |= inputs | outputs
    return bytes_of(specs)


def bytes_of(specs: Specs) -> int:
    """Of all tensors of `specs` together."""
    return sum(torch.Size(spec.shape).numel() * spec.dtype.itemsize for spec in specs.values())
