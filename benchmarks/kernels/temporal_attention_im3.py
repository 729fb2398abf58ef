"""GB/s of the fused attention against a device copy, and its speed-up over eager and torch.compile. Needs a GPU.

    python -m benchmarks.kernels.temporal_attention_im3 --out benchmarks/results [--tune]

The four levels of hero-sd15 at 16 frames, at 256 and 512 px, with and without guidance, FP16. Every form is compared
with the FP32 reference before it is timed; one that does not match is not timed and the run fails.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from hero_kernels.temporal_attention_im3.op import composed
from hero_kernels.temporal_attention_im3.op import temporal_attention_im3 as operator
from hero_kernels.temporal_attention_im3.reference import temporal_attention_im3 as reference

FRAMES, NUM_HEADS, ALPHA = 16, 8, 0.3
CHANNELS = (320, 640, 1280, 1280)  # hero-sd15, a level of half the side each
TOLERANCE = 2e-3  # of the largest value of v: FP16's rounding of P and of the result
COPY_TARGET = 0.80  # of the copy's bandwidth, at C = 320


@dataclass(frozen=True)
class Case:
    pixels: int
    guidance_rows: int
    level: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[G·B, F, S, C]"""
        return self.guidance_rows, FRAMES, (self.pixels // 8 >> self.level) ** 2, CHANNELS[self.level]

    @property
    def name(self) -> str:
        rows = "-cfg" if self.guidance_rows == 2 else ""
        return f"{FRAMES}x{self.pixels}x{self.pixels}{rows} L{self.level} C{CHANNELS[self.level]}"


CASES = tuple(Case(pixels, rows, level) for pixels in (256, 512) for rows in (1, 2) for level in range(4))


@dataclass(frozen=True)
class Result:
    """Times in microseconds, medians; bandwidth counts q, k, v read and o written once."""

    case: str
    shape: tuple[int, ...]
    fused_us: float
    eager_us: float
    compiled_us: float
    gb_per_s: float
    copy_gb_per_s: float
    of_copy: float
    over_eager: float
    over_compiled: float
    error: float


def setup(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (torch.randn(case.shape, generator=generator, device="cuda").half() for _ in range(3))
    return q, k, v, torch.tensor([ALPHA], device="cuda")


def error(got: Tensor, want: Tensor, v: Tensor) -> float:
    return ((got.float() - want.float()).abs().max() / v.float().abs().max()).item()


def verify(name: str, call: Callable[[], Tensor], want: Tensor, v: Tensor) -> float:
    seen = error(call(), want, v)
    if not seen < TOLERANCE:
        raise SystemExit(f"{name} differs from the reference by {seen:.2e} of v's largest value; nothing was timed")
    return seen


def median_us(call: Callable[[], object]) -> float:
    """do_bench flushes the second-level cache between repeats: data come from memory, as behind a whole layer."""
    from triton.testing import do_bench

    return do_bench(call, warmup=50, rep=300, return_mode="median") * 1e3


def measure(case: Case) -> Result:
    q, k, v, alpha = setup(case)
    want = reference(q, k, v, alpha, NUM_HEADS)
    compiled_baseline = torch.compile(composed, fullgraph=True, dynamic=False)
    forms: dict[str, Callable[[], Tensor]] = {
        "fused": lambda: operator(q, k, v, alpha, NUM_HEADS),
        "eager": lambda: composed(q, k, v, alpha, NUM_HEADS),
        "compiled": lambda: compiled_baseline(q, k, v, alpha, NUM_HEADS),
    }
    errors = {name: verify(f"{case.name}: {name}", call, want, v) for name, call in forms.items()}
    times = {name: median_us(call) for name, call in forms.items()}
    # a copy that moves as many bytes: half of them read, half written
    source = torch.empty(2 * q.numel(), dtype=q.dtype, device="cuda")
    target = torch.empty_like(source)
    copy_us = median_us(lambda: target.copy_(source))
    moved = 4 * q.numel() * q.element_size()
    return Result(
        case=case.name,
        shape=case.shape,
        fused_us=times["fused"],
        eager_us=times["eager"],
        compiled_us=times["compiled"],
        gb_per_s=moved / times["fused"] / 1e3,
        copy_gb_per_s=moved / copy_us / 1e3,
        of_copy=copy_us / times["fused"],
        over_eager=times["eager"] / times["fused"],
        over_compiled=times["compiled"] / times["fused"],
        error=errors["fused"],
    )


def tune(case: Case) -> list[dict]:
    """Every listed configuration that matches, fastest first: what default_config should say."""
    from hero_kernels.temporal_attention_im3.triton import CONFIGS, default_config, temporal_attention_im3

    q, k, v, alpha = setup(case)
    want = reference(q, k, v, alpha, NUM_HEADS)
    default = default_config(FRAMES, q.shape[-1] // NUM_HEADS, q.element_size())
    rows = []
    for config in CONFIGS:

        def call(config=config):
            return temporal_attention_im3(q, k, v, alpha, NUM_HEADS, config=config)

        verify(f"{case.name}: {config}", call, want, v)
        rows.append({"case": case.name, **asdict(config), "us": median_us(call), "default": config == default})
    return sorted(rows, key=lambda row: row["us"])


def misses(results: list[Result]) -> list[str]:
    """What of the targets does not hold."""
    slow = [
        f"{r.case}: {r.of_copy:.2f} of a copy, target {COPY_TARGET}"
        for r in results
        if r.shape[-1] == 320 and r.of_copy < COPY_TARGET
    ]
    return slow + [f"{r.case}: {r.over_compiled:.2f}x torch.compile" for r in results if r.over_compiled < 1]


def report(results: list[Result], tuned: list[dict]) -> dict:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    properties = torch.cuda.get_device_properties(0)
    return {
        "benchmark": "temporal_attention_im3",
        "commit": commit,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": properties.name,
        "sm": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "dtype": "float16",
        "misses": misses(results),
        "results": [asdict(result) for result in results],
        "tuned": tuned,
    }


def line(r: Result) -> str:
    return (
        f"{r.case:24} {r.fused_us:9.1f} us {r.gb_per_s:7.0f} GB/s  {r.of_copy:.2f} of copy  "
        f"{r.over_eager:.1f}x eager  {r.over_compiled:.1f}x compiled  match {r.error:.0e}\n"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels.temporal_attention_im3")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the JSON result")
    parser.add_argument("--tune", action="store_true", help="time every configuration too")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.stderr.write("error: no CUDA device; this benchmark measures GPU kernels\n")
        return 1
    results, tuned = [], []
    for case in CASES:
        results.append(measure(case))
        sys.stdout.write(line(results[-1]))
        if options.tune:
            tuned += tune(case)
    written = report(results, tuned)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"temporal_attention_im3-{written['gpu'].replace(' ', '-').lower()}.json"
    path.write_text(json.dumps(written, indent=1) + "\n")
    sys.stdout.write(f"{path}\n")
    for miss in written["misses"]:
        sys.stderr.write(f"target missed: {miss}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
