"""The suite `kernels`: fused temporal attention in GB/s against a copy, and against eager and torch.compile.

The four levels of a preset at its window, with and without guidance. Every form is compared with the reference in
twice the precision. The fused kernel needs a GPU; on a CPU the operator runs its composed form, under its own name.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.context import Context
from benchmarks.measure import Contender, measure
from benchmarks.schema import Case, Verification, Work
from benchmarks.settings import Settings
from hero_kernels.temporal_attention_im3.op import composed
from hero_kernels.temporal_attention_im3.op import temporal_attention_im3 as operator
from hero_kernels.temporal_attention_im3.reference import temporal_attention_im3 as reference
from hero_rt.engines.manifest import DTYPES

ALPHA = 0.3
# of the worst token: rounding of P and of the result
TOLERANCE = {"fp16": 2e-3, "fp32": 1e-5}
WARMUP, REPEATS = 5, 50
LEAST_CALLS = 8  # in a row on a GPU: the events and a graph's launch take as long as a small kernel


@dataclass(frozen=True)
class Operands:
    """[G·B, F, S, C] of one level."""

    name: str
    shape: tuple[int, int, int, int]
    num_heads: int
    dtype: str

    @property
    def work(self) -> Work:
        """q, k, v read and o written once; two products of F x F x d a head and token."""
        batch, frames, tokens, channels = self.shape
        num_bytes = 4 * batch * frames * tokens * channels * DTYPES[self.dtype].itemsize
        return Work(flops=4 * batch * tokens * frames**2 * channels, bytes=num_bytes)

    def make(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        generator = torch.Generator(device).manual_seed(0)
        q, k, v = (torch.randn(self.shape, generator=generator, device=device).to(DTYPES[self.dtype]) for _ in range(3))
        return q, k, v, torch.tensor([ALPHA], device=device)


class Rotation:
    """Calls `form` on one copy of its operands after another, each with a result of its own, kept until its next turn.

    So what a turn of all copies reads and writes is in memory, where it is more than the second-level cache holds.
    """

    def __init__(self, form: Callable[..., Tensor], copies: Sequence[tuple]):
        self._form, self._copies = form, copies
        self._results: list[Tensor | None] = [None] * len(copies)
        self._next = 0

    def __call__(self) -> Tensor:
        index = self._next
        self._next = (index + 1) % len(self._copies)
        self._results[index] = result = self._form(*self._copies[index])
        return result


def argument_copies(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, num_heads: int, count: int) -> list[tuple]:
    """What a form is called with, `count` times in memory of its own."""
    return [(q.clone(), k.clone(), v.clone(), alpha, num_heads) for _ in range(count)]


def calls_a_turn(operands: Operands, device: torch.device) -> int:
    """As many as make twice the second-level cache; one on a CPU."""
    if device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return max(LEAST_CALLS, math.ceil(2 * cache / operands.work.bytes))


def levels(settings: Settings) -> list[Operands]:
    """Every operand shape that a step at these profiles meets."""
    config = settings.config
    found = []
    for profile in settings.profiles():
        sizes = config.level_sizes(profile.height, profile.width)
        for level, ((height, width), channels) in enumerate(zip(sizes, config.block_out_channels, strict=True)):
            shape = (profile.guidance_rows, profile.frames, height * width, channels)
            name = f"{profile} L{level} C{channels} {settings.dtype}"
            found.append(Operands(name, shape, config.num_attention_heads, settings.dtype))
    return found


def run(context: Context) -> Iterator[Case]:
    on_gpu = context.device.type == "cuda"
    for operands in levels(context.settings):
        q, k, v, alpha = operands.make(context.device)
        check = checker(operands, q, k, v, alpha)
        calls = calls_a_turn(operands, context.device)
        copies = argument_copies(q, k, v, alpha, operands.num_heads, calls)
        # a copy that moves as many bytes: half of them read, half written
        source = torch.cat([q, k])
        halves = [(torch.empty_like(source), source.clone()) for _ in range(calls)]
        torch._dynamo.reset()  # past eight shapes torch.compile would stop compiling and run eager
        compiled = torch.compile(composed, fullgraph=True, dynamic=False)
        contenders = {
            "eager": Contender(Rotation(composed, copies), check),
            "compile": Contender(Rotation(compiled, copies), check),
            "fused" if on_gpu else "operator": Contender(Rotation(operator, copies), check),
            "copy": Contender(Rotation(Tensor.copy_, halves), partial(same, want=source)),
        }
        case = measure(
            context,
            operands.name,
            contenders,
            baseline="eager",
            clock=context.kernel_clock(calls),
            warmup=WARMUP,
            repeats=REPEATS,
            work=operands.work,
        )
        yield with_bandwidth(case)
        if context.settings.tune:
            yield tune(operands, context)


def checker(operands: Operands, q: Tensor, k: Tensor, v: Tensor, alpha: Tensor) -> Callable[[Tensor], Verification]:
    """Judges by the relative L2 error of the worst token: one that is wrong must not drown in the others."""
    wider = {"fp16": torch.float32, "fp32": torch.float64}[operands.dtype]
    want = reference(q.to(wider), k.to(wider), v.to(wider), alpha, operands.num_heads).double()
    norms = want.norm(dim=-1)

    def check(got: Tensor) -> Verification:
        errors = (got.double() - want).norm(dim=-1) / norms
        worst = errors.max().item() if errors.isfinite().all() else 1e30  # JSON has no infinity
        limit = TOLERANCE[operands.dtype]
        against = f"{str(wider).removeprefix('torch.')} reference, worst token"
        return Verification(against=against, relative_l2=worst, limit=limit, passed=worst <= limit)

    return check


def same(got: Tensor, want: Tensor) -> Verification:
    return Verification(
        against="the source",
        relative_l2=0.0 if torch.equal(got, want) else 1.0,
        limit=0.0,
        passed=torch.equal(got, want),
    )


def with_bandwidth(case: Case) -> Case:
    """Bandwidth of each contender, and its share of the copy's."""
    copy = case.find("copy")
    if copy is not None:
        copy.ratio = None  # it does other work
    for measurement in case.measurements:
        if case.work is None or measurement.timing is None:
            continue
        measurement.figures["bytes_per_s"] = case.work.bytes / measurement.timing.median
        if copy is not None and copy.timing is not None:
            measurement.figures["share_of_copy"] = copy.timing.median / measurement.timing.median
    return case


def tune(operands: Operands, context: Context) -> Case:
    """Every listed configuration against the default one: what default_config should say. Needs a GPU."""
    from hero_kernels.temporal_attention_im3.triton import CONFIGS, default_config, temporal_attention_im3

    q, k, v, alpha = operands.make(context.device)
    check = checker(operands, q, k, v, alpha)
    calls = calls_a_turn(operands, context.device)
    copies = argument_copies(q, k, v, alpha, operands.num_heads, calls)
    default = default_config(operands.shape[1], q.shape[-1] // operands.num_heads, q.element_size())

    def label(config: object) -> str:
        return " ".join(f"{key}={value}" for key, value in asdict(config).items())  # type: ignore[call-overload]

    contenders = {
        label(config): Contender(Rotation(partial(temporal_attention_im3, config=config), copies), check)
        for config in CONFIGS
    }
    return measure(
        context,
        f"tune {operands.name}",
        contenders,
        baseline=label(default),
        clock=context.kernel_clock(calls),
        warmup=WARMUP,
        repeats=REPEATS,
        work=operands.work,
    )
