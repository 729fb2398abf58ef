"""Profiles by operator of work that is known."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from benchmarks.suites.steps import profile_onnx, profile_operators


def test_an_onnx_files_operators_are_counted_in_one_run(tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in ("x", "y")]
    nodes = [
        helper.make_node("MatMul", ["x", "x"], ["a"]),
        helper.make_node("MatMul", ["a", "x"], ["b"]),
        helper.make_node("Softmax", ["b"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "three", [value[0]], [value[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "three.onnx")
    rows = profile_onnx(tmp_path / "three.onnx")
    assert {row.operator: row.calls for row in rows} == {"MatMul": 2, "Softmax": 1}
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_a_calls_operators_are_counted_in_one_call():
    x = torch.randn(512, 512)
    rows = {row.operator: row.calls for row in profile_operators(lambda: (x @ x) @ x, torch.device("cpu"))}
    assert rows["aten::mm"] == 2
