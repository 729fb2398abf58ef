"""An engine folder opens whole or not at all, and an interrupted build goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

import hero_export.build
from hero_export.build import RECORDS, build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_export.worker import Workers
from hero_rt import Outpainter
from hero_rt.engines import open_engines, read_manifest
from hero_rt.engines.manifest import write_manifest
from hero_rt.errors import EngineError, UsageError
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile
from tests.manifests import edit_manifest

TINY = BuildSettings.of(Checkpoint("random", "hero-tiny"))
PROFILE = Profile(64, 64, 16)
QUICK = ("vae_encoder", "vae_decoder")  # seconds each


@pytest.fixture
def copy(engine_folder, tmp_path) -> Path:
    return Path(shutil.copytree(engine_folder, tmp_path / "engines"))


def test_a_flipped_bit_in_any_file_is_refused_before_anything_is_read(copy):
    for path in sorted(copy / name for name in read_manifest(copy).files):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(EngineError, match=rf"{path.name} has SHA-256 .* was built; rebuild: hero-export build-eng"):
            open_engines(copy, "cpu")
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    open_engines(copy, "cpu").close()


def test_truncated_missing_and_unlisted_files_are_named(copy):
    graph = copy / "refnet.128x64x16.onnx"
    data = graph.read_bytes()
    graph.write_bytes(data[:-7])
    with pytest.raises(EngineError, match=rf"{graph.name} has {len(data) - 7} bytes, {len(data)} were built"):
        open_engines(copy, "cpu")
    graph.unlink()
    with pytest.raises(EngineError, match=rf"{graph.name} is missing; rebuild: "):
        open_engines(copy, "cpu")
    unlist(copy, graph.name)
    with pytest.raises(EngineError, match=rf"does not list {graph.name}"):
        open_engines(copy, "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"schema_version": 99}, "schema version 99, this hero-runtime reads", id="newer-schema"),
        pytest.param(
            {"build": {"format": "tensorrt"}},
            r"cannot import tensorrt: .* pip install '.\[tensorrt\]'",
            id="other-format",
        ),
        pytest.param({"build": {"format": "aoti"}}, "built with torch .* is installed", id="other-library"),
        pytest.param(
            {"target": {"library": "onnxruntime", "library_version": "99.1.0"}},
            "built with onnxruntime 99.1.0, .* is installed",
            id="newer-library",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_says_what_differs(copy, change, message):
    edit_manifest(copy, change)
    with pytest.raises(EngineError, match=message) as caught:
        open_engines(copy, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {
                "schema_version": 2,
                "checkpoint": "random --preset hero-tiny",
                "format": "aoti",
                "dtype": "fp32",
                "options": "--max-autotune",
            },
            "schema version 2, .* rebuild: hero-export build-engines random --preset hero-tiny --format aoti "
            "--dtype fp32 --profile 128x64x16 --profile 128x64x16-cfg --max-autotune --out",
            id="older-schema",
        ),
        pytest.param({"schema_version": 99, "surprise": 1}, "schema version 99, this hero-runtime", id="newer-schema"),
        pytest.param({"surprise": 1}, r"is not valid \(surprise", id="unknown-field"),
        pytest.param({"tool_version": "9"}, "is not as it was written: its SHA-256 differs", id="edited-by-hand"),
    ],
)
def test_a_manifest_changed_by_others_is_refused(copy, change, message):
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EngineError, match=message):
        open_engines(copy, "cpu")


def test_no_manifest_and_no_folder_are_clear(copy, tmp_path):
    (copy / "manifest.json").write_text('{"schema_version": 1')
    with pytest.raises(EngineError, match=r"manifest\.json is not valid"):
        open_engines(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(EngineError, match="its build did not finish; run it again"):
        open_engines(copy)
    with pytest.raises(EngineError, match="does not exist; build one"):
        Outpainter.from_engines(tmp_path / "nowhere")


def test_another_profile_is_refused_with_the_command_that_adds_it(engine_folder):
    engines = open_engines(engine_folder, "cpu")
    with pytest.raises(EngineError) as caught:
        engines.open("unet_step", Profile(256, 256, 16, guided=True))
    message = str(caught.value)
    assert "no unet_step engine for 256x256x16-cfg, only for 128x64x16, 128x64x16-cfg" in message
    assert "hero-export build-engines random --preset hero-tiny --seed 0 --format onnxruntime --dtype fp32" in message
    assert "--profile 256x256x16-cfg" in message


def unlist(folder: Path, name: str) -> None:
    manifest = read_manifest(folder)
    del manifest.files[name]
    write_manifest(folder, manifest)


KILLED_BUILD = """
import pathlib
from hero_export import build
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_export.worker import Workers
from hero_rt.spec.profile import Profile
from tests.manifests import edit_manifest

if __name__ == "__main__":
    build.SUBMODULES = {quick!r}
    build.build_engines(BuildSettings.of(Checkpoint("random", "hero-tiny")), pathlib.Path({folder!r}), [Profile(64, 64, 16)])
"""


@pytest.mark.slow  # test_faults kills a build too
def test_a_killed_build_does_not_open_and_the_next_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(hero_export.build, "SUBMODULES", QUICK)
    main = tmp_path / "main.py"  # a file with a main guard: the build's own processes import it
    main.write_text(KILLED_BUILD.format(quick=QUICK, folder=str(tmp_path / "e")))
    build = subprocess.Popen([sys.executable, str(main)], start_new_session=True)
    records = tmp_path / "e" / RECORDS
    deadline = time.monotonic() + 120
    while not list(records.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    assert [path.name for path in records.glob("*.json")] == ["vae_encoder.64x64x16.onnx.json"]
    with pytest.raises(EngineError, match="its build did not finish"):
        open_engines(tmp_path / "e")

    seen = {}
    build_engines(TINY, tmp_path / "e", [PROFILE], lambda done, kept: seen.update({done.engine.submodule: kept}))

    assert seen == {"vae_encoder": True, "vae_decoder": False}
    assert {engine.submodule for engine in read_manifest(tmp_path / "e").engines} == set(QUICK)
    open_engines(tmp_path / "e", "cpu").close()
    leftovers = {p.name for p in (tmp_path / "e").iterdir()} - set(read_manifest(tmp_path / "e").files)
    assert leftovers == {"manifest.json", ".lock"}


def test_a_rebuilt_folder_keeps_what_is_equal_and_adds_a_profile(engine_folder, copy, monkeypatch):
    built = []

    def refuse(workers, task, *_):
        built.append(task.submodule)
        raise RuntimeError("nothing needs building")

    monkeypatch.setattr(Workers, "build", refuse)
    manifest = build_engines(TINY, copy, [Profile(128, 64, 16)])
    before = read_manifest(engine_folder)
    assert (manifest.engines, manifest.files) == (before.engines, before.files)
    damaged = copy / "vae_encoder.128x64x16.onnx"
    damaged.write_bytes(b"x")
    with pytest.raises(RuntimeError, match="nothing needs building"):
        build_engines(TINY, copy, [Profile(128, 64, 16)])
    assert built == ["vae_encoder"]
    unlist(copy, "vae_encoder.128x64x16.onnx")
    with pytest.raises(RuntimeError, match="nothing needs building"):
        build_engines(TINY, copy, [Profile(128, 64, 16)])
    assert built == ["vae_encoder", "vae_encoder"]


def test_other_weights_or_dtype_into_the_same_folder_are_refused(copy):
    with pytest.raises(EngineError, match="holds engines of seed 0, this build is of 1; choose another --out"):
        build_engines(replace(TINY, checkpoint=Checkpoint("random", "hero-tiny", 1)), copy, [PROFILE])
    with pytest.raises(EngineError, match="holds engines of dtype 'fp32', this build is of 'fp16'"):
        build_engines(replace(TINY, dtype="fp16"), copy, [PROFILE])


def test_two_builds_at_once_do_not_mix(copy):
    with FileLock(copy / ".lock"), pytest.raises(EngineError, match="another build is writing"):
        build_engines(TINY, copy, [PROFILE])


def test_manifest_records_time_and_memory_of_each_fresh_process(engine_folder):
    engines = read_manifest(engine_folder).engines
    assert len(engines) == len(SUBMODULES) + 1
    for engine in engines:
        assert engine.build_seconds > 0.5
        assert 2**28 < engine.peak_memory_bytes < 2**32
        assert len(engine.build_key) == 64
    assert len({engine.build_key for engine in engines}) == len(engines)


def test_a_preset_goes_with_random_weights_only():
    with pytest.raises(UsageError, match="checkpoint 'random' has no sizes of its own; add --preset, of hero-sd15"):
        Checkpoint("random")
    with pytest.raises(UsageError, match="checkpoint 'folder' knows its sizes; leave --preset hero-tiny out"):
        Checkpoint("folder", "hero-tiny")
