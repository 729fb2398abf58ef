"""The ahead-of-time kernels, the C++ plugin around them, and TensorRT-RTX engines with and without it. No GPU."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.kernels.test_temporal_attention_im3 import PRESET_LEVELS

ROOT = Path(__file__).parents[2]
ARCHITECTURES = {80: "sm_80", 86: "sm_86", 89: "sm_89", 90: "sm_90", 100: "sm_100", 120: "sm_120"}
pytestmark = pytest.mark.xdist_group("plugin")


def run(*command, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=kept | environment)


@pytest.fixture(scope="session")
def built():
    """`cmake -S . -B build/plugin && cmake --build build/plugin`: the folder. Rebuilds only what changed."""
    pytest.importorskip("triton")
    cmake = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert cmake, "cmake is not installed; it is among the development dependencies"
    folder = ROOT / "build" / "plugin"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        for step in (["-S", ".", "-B", folder, f"-DPython_EXECUTABLE={sys.executable}"], ["--build", folder]):
            done = run(cmake, *step)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "warning" not in done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def index(built):
    return json.loads((built / "aot" / "index.json").read_text())


def test_every_architecture_has_every_kernel_of_the_presets(index):
    want = {
        (arch, dtype, *level, 16)
        for arch in ARCHITECTURES.values()
        for dtype in ("fp16", "fp32")
        for level in PRESET_LEVELS
    }
    seen = {(k["arch"], k["dtype"], k["num_heads"], k["head_dim"], k["frames"]) for k in index["kernels"]}
    assert seen == want
    assert len(index["kernels"]) == len(want)


def test_no_kernel_spills(index):
    for kernel in index["kernels"]:
        assert 16 <= kernel["registers"] <= 255
        assert kernel["stack_bytes"] == kernel["spill_store_bytes"] == kernel["spill_load_bytes"] == 0


def test_default_configurations_past_the_presets_do_not_spill_either():
    """The widest heads and the most frames, in every type; compile_kernel raises where something spills."""
    pytest.importorskip("triton")
    program = (
        "from hero_kernels.temporal_attention_im3.aot import *\n"
        "for dtype in ('fp16', 'bf16', 'fp32'):\n"
        "    binary = compile_kernel(Specialisation(dtype, 2, 160, 32), 'sm_80')\n"
        "    print(binary.registers, binary.stack_bytes)\n"
    )
    done = run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["0", "0", "0"]


def test_the_index_matches_the_files(index, built):
    for kernel in index["kernels"]:
        for kind in ("ptx", "cubin"):
            data = (built / "aot" / kernel[kind]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == kernel[f"{kind}_sha256"]
        ptx = (built / "aot" / kernel["ptx"]).read_text()
        assert re.findall(r"\.visible \.entry (\w+)\(", ptx) == [kernel["symbol"]]
        assert re.search(r"^\.target (\w+)", ptx, re.MULTILINE)[1] == kernel["target"]
        assert int(re.search(r"\.reqntid (\d+)", ptx)[1]) == kernel["threads"]


def test_a_kernel_takes_exactly_the_indexed_parameters(index, built):
    """Inputs, scalars, output: eight-byte pointers and four-byte integers, and none of Triton's hidden two."""
    kinds = [".u64" if name.endswith("_ptr") else ".u32" for name in index["parameters"]]
    assert kinds == [".u64"] * 4 + [".u32"] * 10 + [".u64"]
    for kernel in index["kernels"]:
        ptx = (built / "aot" / kernel["ptx"]).read_text()
        assert re.findall(r"\.param (\.\w+) [^\n]*_param_\d+[,\n]", ptx) == kinds


def test_cuobjdump_sees_the_same_registers(index, built):
    """A second reader of the same cubins."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    for kernel in index["kernels"]:
        if kernel["arch"] not in ("sm_80", "sm_90"):
            continue
        usage = run(tool, "-res-usage", built / "aot" / kernel["cubin"]).stdout
        found = re.search(rf"Function {kernel['symbol']}:\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
        assert [int(value) for value in found.groups()] == [kernel["registers"], 0, 0]


def test_nothing_of_the_compiling_machine_is_in_the_kernels(index, built):
    for kernel in index["kernels"]:
        for kind in ("ptx", "cubin"):
            data = (built / "aot" / kernel[kind]).read_bytes()
            assert str(ROOT).encode() not in data
            assert b".py" not in data


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        pytest.param("sm_75", "unknown architecture 'sm_75'; expected sm_80 or later", id="too-old"),
        pytest.param("hopper", "unknown architecture 'hopper'", id="a-name"),
    ],
)
def test_an_unknown_architecture_is_one_clear_line(tmp_path, arch, message):
    done = run(sys.executable, "-m", "hero_kernels", "aot", "--arch", arch, "--out", str(tmp_path), "--jobs", "1")
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "index.json").exists()


def test_ctest_passes(built):
    """The plugin alone, and in the plugin registry of the TensorRT that is installed."""
    ctest = Path(shutil.which("ctest", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])))
    done = run(ctest, "--test-dir", built, "--output-on-failure")
    assert done.returncode == 0, done.stdout
    assert "100% tests passed" in done.stdout
    assert re.findall(r"Test +#\d: (\w+) \.+ +Passed", done.stdout) == ["plugin", "registry_tensorrt_rtx"]


def test_the_library_needs_neither_tensorrt_nor_cuda_to_load(built):
    needed = run("readelf", "-d", built / "libhero_plugin.so").stdout
    assert "libc.so" in needed
    assert not re.search(r"NEEDED.*(nvinfer|tensorrt|cuda)", needed)


@pytest.fixture(scope="session")
def loader_path(tmp_path_factory):
    """TensorRT-RTX's parser looks for an unversioned libtensorrt_rtx.so, which its wheel lacks, and aborts without."""
    libraries = pytest.importorskip("tensorrt_rtx_libs")
    folder = tmp_path_factory.mktemp("lib")
    (folder / "libtensorrt_rtx.so").symlink_to(Path(libraries.__path__[0], "libtensorrt_rtx.so.1"))
    return str(folder)


@pytest.mark.parametrize("dtype", ["float16", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("with_plugin", [False, True], ids=["through-the-function", "with-the-plugin"])
def test_tensorrt_rtx_builds_one_graph_for_sm89(built, loader_path, tmp_path, with_plugin, dtype):
    plugin = [built / "libhero_plugin.so"] if with_plugin else []
    script = ROOT / "tests" / "kernels" / "plugin" / "build_engine.py"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    done = run(
        sys.executable, script, tmp_path / "one.onnx", dtype, *plugin, LD_LIBRARY_PATH=loader_path, PYTHONPATH=paths
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["unused_inputs"] == []
    assert report["engine_bytes"] > 1000
    assert ("PLUGIN_V3" in report["layers"]) == with_plugin
    assert ("SOFTMAX" in report["layers"]) != with_plugin
