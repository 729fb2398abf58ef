"""Times fused temporal attention against a copy, eager and torch.compile.

Cases are the four levels of a preset, with and without guidance. Every form is compared with the reference in twice
the precision. The fused kernel needs a GPU. On a CPU the operator runs its composed form under its own name.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.context import Context
from benchmarks.measure import Contender, measure
from benchmarks.schema import Case, Verification, Work
from benchmarks.settings import Settings
from benchmarks.timing import device_clock
from hero_kernels.temporal_attention_im3.op import composed
from hero_kernels.temporal_attention_im3.op import temporal_attention_im3 as operator
from hero_kernels.temporal_attention_im3.reference import temporal_attention_im3 as reference
from hero_rt.engines.manifest import DTYPES

ALPHA = 0.3
# for the worst token: rounding of P and of the result
TOLERANCE = {"fp16": 2e-3, "fp32": 1e-5}
ROUNDS = 5, 50
LEAST_CALLS = 8  # calls per turn on a GPU: events and the launch of a graph take as long as a small kernel


class Operands(NamedTuple):
    """The shape [G·B, F, S, C] of one level."""

    name: str
    shape: tuple[int, int, int, int]
    num_heads: int
    dtype: str

    @property
    def work(self) -> Work:
        """Return the work: q, k, v and o cross memory once; two products of F x F x d per head and token."""
        batch, frames, tokens, channels = self.shape
        num_bytes = 4 * batch * frames * tokens * channels * DTYPES[self.dtype].itemsize
        return Work(flops=4 * batch * tokens * frames**2 * channels, bytes=num_bytes)

    def make(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator(device).manual_seed(0)
        q, k, v = (torch.randn(self.shape, generator=generator, device=device).to(DTYPES[self.dtype]) for _ in range(3))
        return q, k, v, torch.tensor([ALPHA], device=device)


def rotation(form: Callable[..., Tensor], copies: Sequence[tuple]) -> Callable[[], Tensor]:
    """Return a call that runs `form` on each copy of its operands in turn. Each copy keeps its own result.

    If all copies together exceed the second-level cache, every call reads from and writes to memory.
    """
    turns, results = cycle(enumerate(copies)), {}

    def call() -> Tensor:
        index, operands = next(turns)
        results[index] = form(*operands)
        return results[index]

    return call


def calls_a_turn(operands: Operands, device: torch.device) -> int:
    """Return how many calls touch twice the second-level cache. It is 1 on a CPU."""
    if device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return max(LEAST_CALLS, math.ceil(2 * cache / operands.work.bytes))


def levels(settings: Settings) -> list[Operands]:
    """Return every operand shape of a step at these profiles."""
    config, found = settings.config, []
    for profile in settings.profiles():
        sizes = zip(config.level_sizes(profile.height, profile.width), config.block_out_channels, strict=True)
        for level, ((height, width), channels) in enumerate(sizes):
            shape = (profile.guidance_rows, profile.frames, height * width, channels)
            name = f"{profile} L{level} C{channels} {settings.dtype}"
            found.append(Operands(name, shape, config.num_attention_heads, settings.dtype))
    return found


class Bench:
    """Holds the operands of one level on a device, a copy for each call of a turn."""

    def __init__(self, context: Context, operands: Operands):
        self.context, self.operands = context, operands
        self.q, self.k, v, alpha = operands.make(context.device)
        self.calls = calls_a_turn(operands, context.device)
        one = (self.q, self.k, v)
        self._copies = [(*(x.clone() for x in one), alpha, operands.num_heads) for _ in range(self.calls)]
        self._check = checker(operands, self.q, self.k, v, alpha)

    def form(self, form: Callable[..., Tensor]) -> Contender:
        return Contender(rotation(form, self._copies), self._check)

    def copy(self) -> Contender:
        """Return a call that copies as many bytes: half read, half written."""
        source = torch.cat([self.q, self.k])
        halves = [(torch.empty_like(source), source.clone()) for _ in range(self.calls)]
        return Contender(rotation(Tensor.copy_, halves), partial(same, want=source))

    def measure(self, name: str, contenders: dict[str, Contender], baseline: str) -> Case:
        clock = device_clock(self.context.device, self.calls, graph=True)
        return measure(self.context, name, contenders, clock, ROUNDS, self.operands.work, baseline)


def kernels(context: Context) -> Iterator[Case]:
    for operands in levels(context.settings):
        bench = Bench(context, operands)
        torch._dynamo.reset()  # after eight shapes torch.compile would run eager
        contenders = {
            "eager": bench.form(composed),
            "compile": bench.form(torch.compile(composed, fullgraph=True, dynamic=False)),
            "fused" if context.device.type == "cuda" else "operator": bench.form(operator),
            "copy": bench.copy(),
        }
        yield with_bandwidth(bench.measure(operands.name, contenders, "eager"))
        if context.settings.tune:
            yield tune(operands, context)


def checker(operands: Operands, q: Tensor, k: Tensor, v: Tensor, alpha: Tensor) -> Callable[[Tensor], Verification]:
    """Return a check of the worst token's relative L2 error. A mean over tokens would hide one wrong token."""
    wider = {"fp16": torch.float32, "fp32": torch.float64}[operands.dtype]
    want = reference(q.to(wider), k.to(wider), v.to(wider), alpha, operands.num_heads).double()
    norms, limit = want.norm(dim=-1), TOLERANCE[operands.dtype]
    against = f"{str(wider).removeprefix('torch.')} reference, worst token"

    def check(got: Tensor) -> Verification:
        errors = (got.double() - want).norm(dim=-1) / norms
        worst = errors.max().item() if errors.isfinite().all() else 1e30  # JSON has no infinity
        return Verification(against=against, relative_l2=worst, limit=limit, passed=worst <= limit)

    return check


def same(got: Tensor, want: Tensor) -> Verification:
    equal = torch.equal(got, want)
    return Verification(against="the source", relative_l2=0.0 if equal else 1.0, limit=0.0, passed=equal)


def with_bandwidth(case: Case) -> Case:
    """Add the bandwidth of each contender, and its share of the copy's bandwidth."""
    copy = case.find("copy")
    if copy is not None:
        copy.ratio = None  # the copy does other work
    for m, timing in case.timed():
        if case.work is not None:
            m.figures["bytes_per_s"] = case.work.bytes / timing.median
        if copy is not None and copy.timing is not None:
            m.figures["share_of_copy"] = copy.timing.median / timing.median
    return case


def tune(operands: Operands, context: Context) -> Case:
    """Time every listed configuration against the default. The fastest belongs into default_config. Needs a GPU."""
    from hero_kernels.temporal_attention_im3.triton import CONFIGS, default_config, temporal_attention_im3

    bench = Bench(context, operands)
    default = default_config(operands.shape[1], operands.shape[-1] // operands.num_heads, bench.q.element_size())
    contenders = {str(config): bench.form(partial(temporal_attention_im3, config=config)) for config in CONFIGS}
    return bench.measure(f"tune {operands.name}", contenders, str(default))
