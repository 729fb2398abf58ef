"""What this machine reaches at best: a large matrix product in the dtype used, and a large copy."""

import torch

from benchmarks.schema import Ceilings
from benchmarks.timing import CALL, Clock, step_clock
from hero_rt.engines.manifest import DTYPES

MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # several times the last-level cache
SHORTEST = 8  # repeats; the shortest counts: a ceiling is what was reached once


def measure_ceilings(device: torch.device, dtype: str) -> Ceilings:
    """Random operands: a product of zeros draws less power and clocks higher."""
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
