"""Verification finds engines that are not the model, and says which output."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import hero_export.cli
from hero_export.thresholds import THRESHOLDS, Thresholds
from hero_export.verify import relative_l2
from hero_rt.engines import read_manifest
from hero_rt.engines.onnxruntime import OnnxRuntimeEngine
from hero_rt.spec.boundary import SUBMODULES
from tests.clips import CARPHONE
from tests.manifests import edit_manifest
from tests.test_commands import run


@pytest.fixture
def copy(engine_folder, tmp_path) -> Path:
    return Path(shutil.copytree(engine_folder, tmp_path / "engines"))


def test_sound_engines_pass_on_a_real_clip_and_the_manifest_remembers(copy, tmp_path, capsys):
    report = tmp_path / "parity.json"
    assert run(hero_export.cli.main, "verify", copy, "--clip", CARPHONE, "--json", report) == 0
    table = capsys.readouterr().err
    assert "FAILED" not in table
    figures = json.loads(report.read_text())
    assert {row["submodule"] for row in figures["outputs"]} == set(SUBMODULES)
    assert [row["profile"] for row in figures["clips"]] == ["128x64x16", "128x64x16-cfg"]
    assert len([row for row in figures["outputs"] if row["submodule"] == "refnet"]) == 32
    worst = max(row["relative_l2"] for row in figures["outputs"])
    assert 0 < worst < THRESHOLDS["fp32"].per_output
    engines = read_manifest(copy).engines
    assert all(engine.parity is not None and engine.parity["passed"] for engine in engines)


def test_engines_of_other_weights_fail_with_exit_code_3(copy, capsys):
    """The manifest names seed 1, the engines are seed 0's: every submodule's numbers are another model's."""
    edit_manifest(copy, {"build": {"seed": 1}})
    assert run(hero_export.cli.main, "verify", copy) == 3
    err = capsys.readouterr().err
    assert err.count("FAILED") >= len(SUBMODULES)
    assert "differs from FP32 eager by more than 1e-04 an output" in err
    assert any(engine.parity is not None and not engine.parity["passed"] for engine in read_manifest(copy).engines)


@pytest.mark.slow
def test_eager_half_precision_passes_by_thresholds_of_its_own_and_is_not_recorded(copy, tmp_path, capsys):
    unguided(copy)
    before = (copy / "manifest.json").read_bytes()
    report = tmp_path / "parity.json"
    assert run(hero_export.cli.main, "verify", copy, "--eager", "fp16", "--json", report) == 0, capsys.readouterr().err
    figures = json.loads(report.read_text())
    assert figures["judged_as"] == "eager fp16"
    assert 1e-4 < max(row["relative_l2"] for row in figures["outputs"]) < THRESHOLDS["eager fp16"].per_output
    assert (copy / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_fail(copy, monkeypatch, capsys, value):
    unguided(copy)
    real = OnnxRuntimeEngine.__call__

    def broken(self, **inputs):
        outputs = real(self, **inputs)
        if "vae_decoder" in self.name:
            outputs["frames"][0, 0, 0, 0] = value
        return outputs

    monkeypatch.setattr(OnnxRuntimeEngine, "__call__", broken)
    assert run(hero_export.cli.main, "verify", copy) == 3
    failed = [line.strip("│ ") for line in capsys.readouterr().err.splitlines() if "FAILED" in line]
    assert [line.split()[0] for line in failed] == ["vae_decoder", "128x64x16,"], failed  # its frames, and the clip


def unguided(folder: Path) -> None:
    """Drop the profile with guidance: half the time."""
    manifest = read_manifest(folder)
    edit_manifest(folder, {"engines": [e.model_dump() for e in manifest.engines if "-cfg" not in e.profile]})


def test_relative_l2_is_the_norm_ratio_and_nan_is_a_failure():
    want = torch.from_numpy(np.random.default_rng(0).normal(size=100))
    got = want * 1.01
    assert relative_l2(got, want) == pytest.approx(0.01)
    got[3] = torch.nan
    assert relative_l2(got, want) == float("inf")


@pytest.mark.parametrize("option", [("--eager", "fp16", "--device", "cuda"), ("--reference-device", "cuda:1")], ids=str)
def test_a_device_that_is_not_here_is_a_usage_error(engine_folder, monkeypatch, capsys, option):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert run(hero_export.cli.main, "verify", engine_folder, *option) == 2
    assert f"{option[-2]} {option[-1]} is not here: PyTorch sees no GPU; use cpu" in capsys.readouterr().err


def test_help_and_documentation_tell_the_limits():
    page = (Path(__file__).parents[2] / "docs/how-to/build-engines.md").read_text()
    for name, field in Thresholds.model_fields.items():
        assert f"FP16{' engines' * (name == 'per_output')}: {getattr(THRESHOLDS['fp16'], name)}" in field.description
    for judged, limits in THRESHOLDS.items():
        assert f"| {judged} | {limits.per_output} | {limits.latents} | {limits.psnr:.0f} dB |" in page


def test_tolerances_can_be_given(engine_folder, tmp_path):
    folder = shutil.copytree(engine_folder, tmp_path / "engines")
    report = tmp_path / "parity.json"
    assert run(hero_export.cli.main, "verify", folder, "--per-output", "1e-12", "--json", report) == 3
    judged = json.loads(report.read_text())
    assert judged["tolerances"] == {"per_output": 1e-12, "latents": 1e-3, "psnr": 50.0}
    assert not any(row["passed"] for row in judged["outputs"] if row["relative_l2"] > 1e-12)
    assert all(row["passed"] for row in judged["clips"])
