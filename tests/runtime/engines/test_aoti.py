"""A package's calls on a GPU that is not there: which run, which are captured, and whose numbers come back."""

import pytest
import torch

from hero_rt.engines.aoti import PackageCalls
from hero_rt.engines.slots import SlotEngine
from hero_rt.engines.workspace import Workspace
from hero_rt.spec.boundary import TensorSpec
from tests.runtime.engines.fake_gpu import FakeCuda, QueuedCopies

CPU = torch.device("cpu")
SPEC = {"x": TensorSpec((3,), torch.float32)}


@pytest.mark.parametrize("capturable", [True, False])
def test_the_second_call_is_captured_and_every_call_returns_the_numbers_of_its_own_inputs(
    monkeypatch, caplog, capturable
):
    cuda = FakeCuda(capturable)
    monkeypatch.setattr(torch, "cuda", cuda)
    ran = []

    def package(x):
        out = torch.full_like(x, float("nan"))
        ran.append(cuda.capturing is None)
        cuda.put(cuda.current, torch.inference_mode()(lambda: out.copy_(2 * x)))
        return out

    workspace = Workspace(CPU)
    with QueuedCopies(cuda):
        engine = SlotEngine(
            "package.pt2",
            SPEC,
            {"y": SPEC["x"]},
            workspace,
            lambda: PackageCalls("package.pt2", package, SPEC, workspace),
        )
        results = [engine(x=torch.full((3,), float(number)))["y"] for number in range(4)]
    assert [result.tolist() for result in results] == [[2.0 * number] * 3 for number in range(4)]
    assert ran == ([True, False] if capturable else [True, False, True, True, True])
    assert ("package.pt2 runs without a CUDA graph: capture invalidated" in caplog.text) is not capturable
    assert cuda.current is cuda.own
