"""Plans that TensorRT-RTX really builds on a machine with no GPU, and what it is not asked for."""

import shlex
import sys
from pathlib import Path

import pytest
import torch

import hero_export.cli
from hero_export.builders import find_builder
from hero_export.builders.tensorrt import TensorRTOptions, check_options
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_export.onnx import export_onnx
from hero_export.plugin import explain, library_path, resolve_plugin
from hero_export.tensorrt_plan import build_plan
from hero_rt.engines.tensorrt import TENSORRT_RTX
from hero_rt.errors import EngineError, HeroError, UsageError
from hero_rt.models import HeroModel
from hero_rt.spec.profile import Profile
from tests.test_commands import run

SM89 = TensorRTOptions(compute_capabilities=("sm_89",))


@pytest.fixture(scope="module")
def trt():
    return TENSORRT_RTX.module()


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """hero-tiny's FP16 decoder as ONNX."""
    path = tmp_path_factory.mktemp("onnx") / "vae_decoder.onnx"
    return export_onnx(
        HeroModel.random("hero-tiny", dtype=torch.float16), "vae_decoder", Profile(64, 64, 16), path
    ).path


def test_a_plan_holds_its_weights_and_what_its_builder_told(trt, decoder, tmp_path):
    seen: dict[str, tuple[int, int]] = {}

    def progress(phase: str, done: int, total: int) -> bool:
        seen[phase] = (done, total)
        return True

    plan = build_plan(trt, decoder, tmp_path / "out.plan", SM89, progress=progress)
    weights = next(decoder.parent.glob("vae_decoder-*.data")).stat().st_size
    assert (tmp_path / "out.plan").stat().st_size > weights
    assert plan.memory["device_weights_bytes"] == pytest.approx(weights, rel=0.2)
    assert plan.memory["activation_bytes"] > 16 * 3 * 64 * 64 * 2  # the frames alone
    assert any("conv_norm_out" in layer for layer in plan.layers)
    assert seen
    assert all(done == total for done, total in seen.values())
    assert [path.name for path in tmp_path.iterdir()] == ["out.plan"]


def test_repeated_builds_are_equal_and_each_target_is_in_the_plan(trt, decoder, tmp_path):
    sizes = {}
    for targets in (("sm_89",), ("sm_80", "sm_89", "sm_120")):
        options = TensorRTOptions(compute_capabilities=targets)
        plans = [build_plan(trt, decoder, tmp_path / f"{i}.plan", options).path.read_bytes() for i in range(2)]
        assert plans[0] == plans[1]
        sizes[targets] = len(plans[0])
    assert len(set(sizes.values())) == 2


def test_a_graph_that_cannot_be_parsed_is_the_parsers_own_words(trt, tmp_path):
    graph = tmp_path / "broken.onnx"
    graph.write_bytes(b"not a graph")
    with pytest.raises(HeroError, match=r"broken\.onnx: TensorRT's parser refuses it: .*[Pp]arse") as caught:
        build_plan(trt, graph, tmp_path / "out.plan", SM89)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.plan").exists()


def test_a_workspace_that_is_too_small_names_its_option(trt, decoder, tmp_path):
    little = SM89.model_copy(update={"pool_limit": "workspace:1M"})
    with pytest.raises(HeroError, match=r"workspace limit.*; raise --pool-limit workspace:1M$"):
        build_plan(trt, decoder, tmp_path / "out.plan", little)


def test_progress_that_says_stop_stops_the_build(trt, decoder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build_plan(trt, decoder, tmp_path / "o.plan", SM89, progress=lambda phase, done, total: False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({}, "there is no GPU here to build for: name targets with --compute-capabilities", id="current-device"),
        pytest.param({"compute_capabilities": ("sm_90",)}, "sm_90 is no target .* sm_75, sm_80, sm_86, sm_89.*aoti", id="hopper"),
        pytest.param({"compute_capabilities": ("sm_90", "sm_89")}, "sm_90 is no target .* engines of its own: .* another --out", id="hopper-and-ada"),
        pytest.param({"compute_capabilities": ("sm_100",)}, "sm_100 is no target", id="blackwell-datacentre"),
        *(
            pytest.param({"compute_capabilities": ("sm_89",), name: value}, f"--{name.replace('_', '-')} needs the GPU itself", id=name)
            for name, value in {"refittable": True, "strip_plan": True, "version_compatible": True, "hardware_compatibility_level": "ampere_plus"}.items()
        ),
        pytest.param({"compute_capabilities": ("sm_89",), "load_timing_cache": "x"}, "--load-timing-cache is not for tensorrt-rtx", id="load-timing-cache"),
        pytest.param({"compute_capabilities": ("sm_89",), "save_timing_cache": "x"}, "--save-timing-cache is not for tensorrt-rtx", id="save-timing-cache"),
        pytest.param({"compute_capabilities": ("sm_89",), "plugin": "python"}, "no Python plugins", id="python-plugin"),
    ],
)  # fmt: skip
def test_what_the_library_cannot_do_without_a_gpu_is_refused_up_front(options, message):
    with pytest.raises(UsageError, match=message):
        check_options("tensorrt-rtx", TensorRTOptions(**options), gpu=None)


def test_a_gpu_here_is_the_target_and_lifts_what_needed_one():
    assert check_options("tensorrt-rtx", TensorRTOptions(refittable=True), "sm_86").compute_capabilities == ("sm_86",)
    with pytest.raises(UsageError, match="sm_90 is no target"):
        check_options("tensorrt-rtx", TensorRTOptions(), "sm_90")


def test_enterprise_tensorrt_takes_no_targets_and_its_absence_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # what an import of a missing package meets
    tensorrt = find_builder("tensorrt")
    with pytest.raises(UsageError, match="sm_89: tensorrt builds for the present GPU only"):
        tensorrt.resolve(SM89)
    with pytest.raises(EngineError, match=r"pip install '\.\[tensorrt\]'"):
        tensorrt.resolve(TensorRTOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"pool_limit": "8G"}, "'8G' is not workspace:SIZE", id="pool-limit"),
        pytest.param(
            {"builder_optimization_level": 6},
            "--builder-optimization-level is 6: Input should be less than or equal to 5",
            id="level",
        ),
        pytest.param(
            {"hardware_compatibility_level": "all"},
            "--hardware-compatibility-level is 'all': Input should be 'none', 'ampere_plus'",
            id="hardware",
        ),
        pytest.param(
            {"plugin": "yes"}, "--plugin is 'yes': Input should be 'auto', 'python', 'library' or 'off'", id="plugin"
        ),
        pytest.param({"pool_limit": "workspace:8"}, "'workspace:8' is 8 bytes, below 1M", id="pool-limit-in-bytes"),
        pytest.param(
            {"compute_capabilities": ["8.9", "87"]},
            "--compute-capabilities is '8.9 87': '87' is not of the form 8.9 or sm_89",
            id="capability",
        ),
    ],
)
def test_a_malformed_option_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        BuildSettings.of(Checkpoint("random", "hero-tiny"), "tensorrt-rtx", **options)


@pytest.mark.parametrize("given", [("8.9", "12.0"), ("sm_89", "sm_120"), ("8.9,sm_120",), ("8.9 12.0",)], ids=str)
def test_targets_are_taken_as_polygraphy_and_as_nvcc_write_them(given):
    assert TensorRTOptions(compute_capabilities=given).compute_capabilities == ("sm_89", "sm_120")


def test_the_values_of_an_option_may_stand_apart_on_the_command_line():
    words = ["build-engines", "--compute-capabilities", "8.9", "12.0", "hero", "--out", "12.0"]
    joined = ["build-engines", "--compute-capabilities", "8.9,12.0", "hero", "--out", "12.0"]
    assert hero_export.cli.join_values(words) == joined
    assert hero_export.cli.join_values(["verify", "engines"]) == ["verify", "engines"]


def test_options_are_told_as_the_command_line_takes_them():
    checkpoint = Checkpoint("a folder/with 'quotes'")
    assert BuildSettings.of(checkpoint, "tensorrt-rtx").spec.options == {}
    settings = BuildSettings.of(
        checkpoint, "tensorrt-rtx", pool_limit="workspace:1.5M", compute_capabilities=("8.9", "12.0"), strip_plan=True
    )
    assert settings.options.workspace == 3 << 19
    words = shlex.split(settings.spec.command(["64x64x16"], Path("an out")))
    assert words[2:] == [
        "a folder/with 'quotes'", "--format", "tensorrt-rtx", "--dtype", "fp16", "--profile", "64x64x16", "--pool-limit",
        "workspace:1.5M", "--strip-plan", "--compute-capabilities", "sm_89", "sm_120", "--out", "an out",
    ]  # fmt: skip


def test_the_library_is_looked_for_where_it_was_built_wherever_one_stands(monkeypatch, tmp_path):
    monkeypatch.delenv("HERO_PLUGIN_LIBRARY", raising=False)
    seen = library_path()
    monkeypatch.chdir(tmp_path)
    assert library_path() == seen
    assert seen.is_absolute()
    for plugin, line in (("python", "Triton kernel"), ("library", str(seen)), ("off", "from its parts")):
        assert line in explain("tensorrt", plugin)


def test_auto_takes_the_plugin_that_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HERO_PLUGIN_LIBRARY", str(tmp_path / "libhero_plugin.so"))
    assert resolve_plugin("tensorrt-rtx", "auto") == "off"
    assert resolve_plugin("tensorrt", "auto") == "python"
    with pytest.raises(EngineError, match="does not exist; run make plugin, or set HERO_PLUGIN_LIBRARY"):
        resolve_plugin("tensorrt-rtx", "library")
    (tmp_path / "libhero_plugin.so").touch()
    assert resolve_plugin("tensorrt-rtx", "auto") == "library"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--format", "tensorrt-rtx", "--compute-capabilities", "9.0"], "is no target", id="hopper"),
        pytest.param(
            ["--strip-plan"], "--strip-plan is for tensorrt and tensorrt-rtx, not for onnxruntime", id="other-format"
        ),
        pytest.param(
            ["--format", "tensorrt-rtx", "--device", "cuda"], "--device is for aoti, not for tensorrt-rtx", id="device"
        ),
    ],
)
def test_options_of_another_format_are_usage_errors(tmp_path, capfd, arguments, message):
    base = ["build-engines", "random", "--preset", "hero-tiny", "--profile", "64x64x16", "--out", tmp_path / "e"]
    assert run(hero_export.cli.main, *base, *arguments) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "e").exists()
