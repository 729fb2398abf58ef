"""Compile the kernels of the presets without a GPU: `python -m hero_kernels aot --arch sm_80,sm_90 --out DIR`."""

import argparse
import hashlib
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import triton

from hero_kernels.temporal_attention_im3 import aot

ARCHITECTURES = "sm_80,sm_86,sm_89,sm_90,sm_100,sm_120"
SCHEMA = 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hero_kernels")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("aot", help="compile the presets' kernels into PTX, cubin and index.json")
    command.add_argument("--arch", default=ARCHITECTURES, help=f"comma-separated; default {ARCHITECTURES}")
    command.add_argument("--out", required=True, type=Path, metavar="DIR")
    command.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default one a core")
    options = parser.parse_args(arguments)
    try:
        entries = compile_all(options.arch.split(","), options.out, options.jobs)
    except aot.CompileError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{options.out}/index.json: {len(entries)} kernels, no spills\n")
    return 0


def compile_all(archs: list[str], out: Path, jobs: int) -> list[dict]:
    """Write `<arch>/<symbol>.ptx`, `.cubin` and, last, index.json under `out`. Return the kernels of the index."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.json").unlink(missing_ok=True)
    work = [(spec, arch) for arch in archs for spec in aot.PRESETS]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        entries = [_write(binary, out) for binary in pool.map(aot.compile_kernel, *zip(*work, strict=True))]
    index = {
        "schema": SCHEMA,
        "operator": "hero::TemporalAttentionIM3",
        "kernel_sha256": aot.kernel_digest(),
        "triton": triton.__version__,
        "parameters": list(aot.PARAMETERS),
        "grid": "batch * ceil(tokens * num_heads / pairs), 1, 1",
        "kernels": entries,
    }
    scratch = out / "index.json.part"
    scratch.write_text(json.dumps(index, indent=1) + "\n")
    scratch.replace(out / "index.json")
    return entries


def _write(binary: aot.Binary, out: Path) -> dict:
    spec, about = binary.specialisation, asdict(binary)
    (out / binary.arch).mkdir(exist_ok=True)
    entry = {"symbol": spec.symbol, **about.pop("specialisation"), **asdict(spec.config)}
    for suffix in ("ptx", "cubin"):
        data, name = about.pop(suffix), f"{binary.arch}/{spec.symbol}.{suffix}"
        (out / name).write_bytes(data)
        entry |= {suffix: name, f"{suffix}_sha256": hashlib.sha256(data).hexdigest()}
    return entry | about


if __name__ == "__main__":
    sys.exit(main())
