"""What ONNX Runtime does not say by itself."""

from types import SimpleNamespace

import pytest
import torch

from hero_rt.engines.onnxruntime import _open_session
from hero_rt.errors import EngineError


def test_a_session_that_fell_back_to_the_cpu_is_refused(tmp_path, monkeypatch):
    """CUDA's libraries do not load: ONNX Runtime logs a warning and gives a session on the CPU."""
    import onnxruntime

    fallen = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: fallen)
    with pytest.raises(EngineError, match="fell back to CPUExecutionProvider: the libraries of CUDAExecutionProvider"):
        _open_session(tmp_path / "unet_step.onnx", torch.device("cuda"))
