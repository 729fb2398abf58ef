"""The doctor tells what is here, and what is not."""

import json
import sys
from importlib.metadata import version

import torch

import hero_export.cli
from hero_export.doctor import diagnose
from tests.test_commands import run


def test_it_names_installed_versions_and_formats_that_run(tmp_path, capsys):
    report = tmp_path / "doctor.json"
    assert run(hero_export.cli.main, "doctor", "--json", report) == 0
    assert "onnxruntime" in capsys.readouterr().err
    found = json.loads(report.read_text())
    assert found["packages"]["onnx"] == version("onnx")
    formats = {status["format"]: status for status in found["formats"]}
    assert set(formats) == {"eager", "onnxruntime", "aoti"}
    assert all("cpu" in status["runs_on"] for status in formats.values())
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_a_missing_library_and_a_missing_compiler_come_with_their_remedy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # what an import of a missing package meets
    monkeypatch.setenv("PATH", str(tmp_path))
    formats = {status.format: status for status in diagnose().formats}
    assert formats["onnxruntime"].runs_on == []
    assert "pip install 'hero-runtime[cpu]'" in str(formats["onnxruntime"].missing)
    assert not formats["aoti"].builds
    assert "apt-get install g++" in str(formats["aoti"].missing)
