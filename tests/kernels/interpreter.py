"""Triton's interpreter in a process of its own: TRITON_INTERPRET is read when triton is first imported, and a test
run may have imported it already."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def start() -> ProcessPoolExecutor:
    """One worker that runs Triton kernels on CPU tensors."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_interpret)


def _interpret() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    import numpy as np
    import torch
    import triton.language as tl
    from triton.runtime import interpreter

    torch.set_num_threads(1)
    dot = interpreter.InterpreterBuilder.create_dot

    def widened(handle):
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def create_dot(self, a, b, *rest):
        # the interpreter holds bfloat16 as its bits and multiplies those as integers; products are exact in float32
        if a.dtype.scalar == tl.bfloat16:
            a, b = widened(a), widened(b)
        return dot(self, a, b, *rest)

    interpreter.InterpreterBuilder.create_dot = create_dot
    torch.library.wrap_triton = lambda kernel: kernel  # PyTorch 2.11's refuses what the interpreter made


def call(module: str, function: str, args: tuple, kwargs: dict):
    """Import and call inside the worker."""
    import importlib

    return getattr(importlib.import_module(module), function)(*args, **kwargs)


def runner(pool: ProcessPoolExecutor, module: str, function: str) -> Callable:
    """`module.function` that runs in the worker."""
    return lambda *args, **kwargs: pool.submit(call, module, function, args, kwargs).result(timeout=300)
