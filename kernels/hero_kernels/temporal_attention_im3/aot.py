"""Compiles the kernel ahead of time: PTX and cubin for a named architecture, without a GPU.

The entry point takes exactly `PARAMETERS`. Triton appends two scratch pointers to every kernel; this kernel does not
use them, and they are removed.
"""

import hashlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hero_kernels.temporal_attention_im3 import triton as fused

_STRIDES = tuple(f"{tensor}_{axis}" for tensor in "qkv" for axis in ("batch", "frame", "token"))
PARAMETERS = ("q_ptr", "k_ptr", "v_ptr", "alpha_ptr", "tokens", *_STRIDES, "o_ptr")
ITEMSIZE = {"fp16": 2, "bf16": 2, "fp32": 4}
_ALIGNMENT = 16  # bytes of a pointer and elements of a stride, as 16-byte loads need


class CompileError(RuntimeError):
    """Raised for a kernel that does not compile, or that spills registers."""


@dataclass(frozen=True)
class Specialisation:
    """Everything that is fixed when a kernel is compiled, except the architecture."""

    dtype: str  # fp16, bf16, fp32
    num_heads: int
    head_dim: int
    frames: int

    @property
    def symbol(self) -> str:
        return f"hero_temporal_attention_im3_{self.dtype}_f{self.frames}_h{self.num_heads}_d{self.head_dim}"

    @property
    def config(self) -> fused.Config:
        return fused.default_config(self.frames, self.head_dim, ITEMSIZE[self.dtype])


# hero-sd15 (C = 320, 640, 1280, 1280 in 8 heads) and hero-tiny (C = 32, 32, 48, 48 in 2), 16 frames
PRESETS = tuple(
    Specialisation(dtype, num_heads, head_dim, 16)
    for dtype in ("fp16", "fp32")
    for num_heads, head_dim in ((8, 40), (8, 80), (8, 160), (2, 16), (2, 24))
)


@dataclass(frozen=True)
class Binary:
    """A specialisation compiled for one architecture. Bytes are per thread; `shared_bytes` is per program."""

    specialisation: Specialisation
    arch: str  # as requested: sm_90
    target: str  # as compiled: sm_90a, whose cubin runs on SM 9.0 only
    ptx: bytes
    cubin: bytes
    threads: int
    shared_bytes: int
    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int


def compile_kernel(spec: Specialisation, arch: str) -> Binary:
    """Compile for `arch` ("sm_80"). Raises CompileError where ptxas fails or a register spills."""
    capability = _capability(arch)
    if spec.num_heads * spec.head_dim % _ALIGNMENT:
        raise CompileError(
            f"{spec.symbol}: C = {spec.num_heads * spec.head_dim} is not a multiple of {_ALIGNMENT}; run the operator"
        )
    kernel, config = fused.temporal_attention_im3_kernel, spec.config
    fixed = fused.constants(spec.frames, spec.num_heads, spec.head_dim, config)
    signature = dict.fromkeys((*_STRIDES, "tokens"), "i32")
    signature |= dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "o_ptr"), f"*{spec.dtype}") | {"alpha_ptr": "*fp32"}
    signature |= dict.fromkeys(fixed, "constexpr")
    signature = {name: signature[name] for name in kernel.arg_names}
    aligned = {
        (kernel.arg_names.index(name),): [["tt.divisibility", _ALIGNMENT]] for name in PARAMETERS if name != "tokens"
    }
    with knobs.compilation.scope():
        knobs.compilation.disable_line_info = True  # paths of the compiling machine
        compiled = triton.compile(
            ASTSource(kernel, signature, fixed, aligned),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": config.num_warps, "ptx_version": _ptx_version(capability), "enable_fp_fusion": True},
        )
    ptx = _without_scratch(compiled.asm["ptx"]).replace(kernel.__name__, spec.symbol)
    target = _match(r"^\.target (\w+)", ptx)
    cubin, report = _assemble(ptx, target, capability)
    used = Binary(
        spec, arch, target, ptx.encode(), cubin,
        threads=config.num_warps * 32,
        shared_bytes=compiled.metadata.shared,
        registers=int(_match(r"Used (\d+) registers", report)),
        stack_bytes=int(_match(r"(\d+) bytes stack frame", report)),
        spill_store_bytes=int(_match(r"(\d+) bytes spill stores", report)),
        spill_load_bytes=int(_match(r"(\d+) bytes spill loads", report)),
    )  # fmt: skip
    if used.spill_store_bytes or used.spill_load_bytes or used.stack_bytes:
        raise CompileError(
            f"{spec.symbol} for {arch} spills: {used.registers} registers, {used.stack_bytes} bytes of stack; "
            f"give default_config fewer pairs or channels for this shape than {config}"
        )
    return used


def kernel_digest() -> str:
    """Return the SHA-256 of the kernel's source, on which an engine with the kernel depends."""
    return hashlib.sha256(fused.temporal_attention_im3_kernel.src.encode()).hexdigest()


def _capability(arch: str) -> int:
    found = re.fullmatch(r"sm_(\d{2,3})", arch)
    if found is None or int(found[1]) < 80:
        raise CompileError(f"unknown architecture {arch!r}; expected sm_80 or later, as in sm_80,sm_90")
    return int(found[1])


def _ptx_version(capability: int) -> int:
    """Return the oldest PTX version that knows the architecture, so that old drivers take it. 8.0 is CUDA 12.0."""
    return 80 if capability < 100 else 86 if capability < 120 else 87


def _without_scratch(ptx: str) -> str:
    declared = re.findall(r"\.param [^,)]*?(\w+_param_\d+)", ptx)
    extra = declared[len(PARAMETERS) :]
    if len(extra) > 2 or any(ptx.count(name) != 1 for name in extra):
        raise CompileError(f"the kernel takes {len(declared)} parameters and uses {extra}; expected {PARAMETERS}")
    for name in extra:
        ptx = re.sub(rf",\s*\.param [^,)]*?\b{name}\b", "", ptx)
    return ptx


def _assemble(ptx: str, target: str, capability: int) -> tuple[bytes, str]:
    """Return the cubin and the report of `ptxas -v`."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    blackwell = tools / "ptxas-blackwell"
    ptxas = blackwell if capability >= 100 and blackwell.exists() else tools / "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        done = subprocess.run(
            [ptxas, "-v", f"--gpu-name={target}", source, "-o", binary], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CompileError(f"ptxas fails for {target}: {done.stderr.strip()}")
        return binary.read_bytes(), done.stderr


def _match(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise CompileError(f"expected {pattern!r} in the compiler's output; got {text[:400]!r}")
    return found[1]
