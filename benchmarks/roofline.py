"""Computes the physical limit: necessary operations and bytes over the measured rates of the machine.

Operations and bytes are counted on meta tensors, so any preset and size takes a second.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import hero_kernels  # noqa: F401  (registers torch.ops.hero)
from benchmarks.schema import Ceilings, Work
from benchmarks.timing import device_clock
from hero_rt.engines.manifest import DTYPES
from hero_rt.models.hero import HeroModel, make_part
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import SUBMODULES, Specs, submodule_io
from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import Profile

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # several times the last-level cache
REPEATS = 11  # the shortest counts: a ceiling is a rate that was reached once


def measure_ceilings(device: torch.device, dtype: str) -> Ceilings:
    """Time a large product and a large copy. Operands are random: zeros draw less power and raise the clock."""
    clock = device_clock(device)
    size, num_bytes = MATMUL_SIZE[device.type], COPY_BYTES[device.type]
    a, b = (torch.randn(size, size, device=device).to(DTYPES[dtype]) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.randint(256, (num_bytes,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    calls = (lambda: torch.mm(a, b, out=product), lambda: target.copy_(source))
    multiply, copy = (min(clock(call)[0] for _ in range(REPEATS)) for call in calls)
    flops, moved = 2 * size**3 / multiply, 2 * num_bytes / copy
    return Ceilings(dtype=dtype, flops_per_s=flops, matmul_size=size, bytes_per_s=moved, copy_bytes=num_bytes)


def _temporal_attention_flops(q: Sequence[int], *_: Any, **__: Any) -> int:
    """Count 4·B·S·F²·C: two products of F x F x d per head and token. q: [B, F, S, C]."""
    batch, frames, tokens, channels = q
    return 4 * batch * tokens * frames**2 * channels


FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.hero.temporal_attention_im3: _temporal_attention_flops,
    torch.ops.hero.im3_blend: lambda *_, **__: 0,  # elementwise operations do not count; torch's counter omits them too
}


def work_of(module: nn.Module, inputs: Sequence[Tensor]) -> Work:
    """Count operations of products and convolutions, and bytes of each used parameter, input and output.

    Activations between layers are not counted, because perfect fusion would keep them on the chip. So the limit holds
    for any fusion.
    """
    parameters = list(module.requires_grad_(True).parameters())
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        out = module(*inputs)
    outputs = (out,) if isinstance(out, Tensor) else out
    gradients = torch.autograd.grad([output.sum() for output in outputs], parameters, allow_unused=True)
    # parameters that the submodule does not use have no gradient
    read = [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
    num_bytes = sum(tensor.nbytes for tensor in (*read, *inputs, *outputs))
    return Work(flops=counter.get_total_flops(), bytes=num_bytes)


@functools.cache
def submodule_work(preset: str, dtype: str, submodule: str, profile: Profile) -> Work:
    """Return the work of one call of one submodule."""
    config = HeroConfig.from_preset(preset)
    inputs, _ = submodule_io(submodule, config, profile, DTYPES[dtype])
    with torch.device("meta"):
        model = HeroModel(config, functools.partial(make_part, config), DTYPES[dtype], "meta")
        module = build_submodule(model, submodule, profile)
        return work_of(module, [torch.empty(spec.shape, dtype=spec.dtype) for spec in inputs.values()])


def clip_work(preset: str, dtype: str, profile: Profile, steps: int, windows: int = 1) -> Work:
    """Return the work of `windows` windows: constants once, `steps` denoising steps, the decoder."""
    times = dict.fromkeys(SUBMODULES, windows) | {"unet_step": windows * steps}
    works = [(submodule_work(preset, dtype, name, profile), count) for name, count in times.items()]
    return Work(flops=sum(work.flops * n for work, n in works), bytes=sum(work.bytes * n for work, n in works))


def boundary_bytes(preset: str, dtype: str, profile: Profile) -> int:
    """Return the bytes of all tensors between submodules, each counted once."""
    config = HeroConfig.from_preset(preset)
    pairs = [submodule_io(name, config, profile, DTYPES[dtype]) for name in SUBMODULES]
    return bytes_of({name: spec for pair in pairs for specs in pair for name, spec in specs.items()})


def bytes_of(specs: Specs) -> int:
    """Return the bytes of all tensors of `specs`."""
    return sum(torch.Size(spec.shape).numel() * spec.dtype.itemsize for spec in specs.values())
