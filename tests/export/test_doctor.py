"""The doctor tells what is here, and what is not."""

import json
import sys
from importlib.metadata import version

import torch

import hero_export.cli
from hero_export.builders import find_builder
from hero_export.doctor import diagnose
from tests.test_commands import run


def test_it_names_installed_versions_and_formats_that_run(tmp_path, capsys):
    report = tmp_path / "doctor.json"
    assert run(hero_export.cli.main, "doctor", "--json", report) == 0
    assert "onnxruntime" in capsys.readouterr().err
    found = json.loads(report.read_text())
    assert found["packages"]["onnx"] == version("onnx")
    formats = {status["format"]: status for status in found["formats"]}
    assert set(formats) == {"eager", "onnxruntime", "tensorrt", "tensorrt-rtx", "aoti"}
    assert all("cpu" in formats[name]["runs_on"] for name in ("eager", "onnxruntime", "aoti"))
    assert "pip install '.[tensorrt]'" in formats["tensorrt"]["missing"]
    assert formats["tensorrt-rtx"]["builds"]  # for targets that are named, with no GPU
    assert formats["tensorrt-rtx"]["targets"] == ["sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121"]
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_a_gpu_that_tensorrt_rtx_does_not_serve_is_told_apart(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    rtx = find_builder("tensorrt-rtx").status()
    assert rtx.runs_on == []
    assert "sm_90 is no target of TensorRT-RTX" in str(rtx.missing)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 9))
    assert find_builder("tensorrt-rtx").status().runs_on == ["cuda"]


def test_a_missing_library_and_a_missing_compiler_come_with_their_remedy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # what an import of a missing package meets
    monkeypatch.setenv("PATH", str(tmp_path))
    formats = {status.format: status for status in diagnose().formats}
    assert formats["onnxruntime"].runs_on == []
    assert "pip install '.[cpu]'" in str(formats["onnxruntime"].missing)
    assert not formats["aoti"].builds
    assert "apt-get install g++" in str(formats["aoti"].missing)
