"""Where the kernels run: Triton's interpreter on the CPU, or the GPU with HERO_KERNELS_DEVICE=cuda."""

import os

import pytest
import torch

from tests.kernels import interpreter

DEVICE = os.environ.get("HERO_KERNELS_DEVICE", "cpu")


@pytest.fixture(scope="session")
def on_device():
    """on_device(module, function): a callable on CPU tensors that runs the kernel and returns CPU tensors."""
    if DEVICE == "cpu":
        with interpreter.start() as pool:
            yield lambda module, function: interpreter.runner(pool, module, function)
        return

    def moved(value):
        if not isinstance(value, torch.Tensor):
            return value
        # the whole storage, so that strides and what lies around a view are kept
        size = value.untyped_storage().nbytes() // value.element_size()
        storage = value.as_strided((size,), (1,), 0).to(DEVICE)
        return storage.as_strided(value.shape, value.stride(), value.storage_offset())

    def native(module, function):
        def run(*args, **kwargs):
            args, kwargs = tuple(map(moved, args)), {name: moved(value) for name, value in kwargs.items()}
            return interpreter.call(module, function, args, kwargs).cpu()

        return run

    yield native


@pytest.fixture(scope="session")
def fused_attention(on_device):
    return on_device("hero_kernels.temporal_attention_im3.triton", "temporal_attention_im3")


@pytest.fixture(scope="session")
def fused_blend(on_device):
    return on_device("hero_kernels.im3_blend.triton", "im3_blend")
