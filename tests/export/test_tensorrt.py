"""Plans that TensorRT-RTX really builds on a machine with no GPU, and what it is not asked for."""

import sys
from types import SimpleNamespace

import onnx
import pytest
import torch

import hero_export.cli
from hero_export.onnx import export_onnx
from hero_export.tensorrt import PlanOptions, build_plan, check_options, load_module, parse_workspace
from hero_rt.errors import EngineError, HeroError, UsageError
from hero_rt.models import HeroModel
from hero_rt.profile import Profile
from tests.test_commands import run

TARGETS = ("sm_80", "sm_89", "sm_120")


@pytest.fixture(scope="module")
def trt():
    return load_module("tensorrt-rtx")


@pytest.fixture(scope="module")
def half_precision(tmp_path_factory):
    """FP16 graphs of hero-tiny: one with temporal attention, one without."""
    folder, model = tmp_path_factory.mktemp("onnx"), HeroModel.random("hero-tiny", dtype=torch.float16)
    return {
        name: export_onnx(model, name, Profile(64, 64, 16), folder / f"{name}.onnx").path
        for name in ("vae_decoder", "flow_encoder")
    }


@pytest.mark.parametrize("submodule", ["vae_decoder", "flow_encoder"])
def test_a_half_precision_graph_builds_for_each_target(trt, half_precision, tmp_path, submodule):
    seen: dict[str, int] = {}
    plan = build_plan(
        trt,
        half_precision[submodule],
        tmp_path / "out.plan",
        PlanOptions(compute_capability=TARGETS),
        lambda phase, done, total: seen.update({phase: done}),
    )
    weights = sum(path.stat().st_size for path in half_precision[submodule].parent.glob(f"{submodule}-*.data"))
    assert plan.bytes == (tmp_path / "out.plan").stat().st_size > weights
    graph = onnx.load(half_precision[submodule], load_external_data=False).graph
    convolutions = sum(node.op_type == "Conv" for node in graph.node)
    assert plan.layers["CONVOLUTION"] == convolutions
    norms = sum(node.op_type in ("GroupNormalization", "LayerNormalization") for node in graph.node)
    assert plan.layers["NORMALIZATION"] == norms
    # with no plugin registered the hero nodes are built from their function: a softmax each
    softmaxes = sum(node.op_type in ("Softmax", "TemporalAttentionIM3") for node in graph.node)
    assert plan.layers["SOFTMAX"] == softmaxes
    assert seen
    assert [path.name for path in tmp_path.iterdir()] == ["out.plan"]


def test_a_graph_that_cannot_be_parsed_is_the_parsers_own_words(trt, tmp_path):
    graph = tmp_path / "broken.onnx"
    graph.write_bytes(b"not a graph")
    with pytest.raises(HeroError, match=r"broken\.onnx: TensorRT's parser refuses it: .*[Pp]arse") as caught:
        build_plan(trt, graph, tmp_path / "out.plan", PlanOptions(compute_capability=("sm_89",)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.plan").exists()


def test_an_interrupt_in_the_progress_bar_stops_the_build(trt, half_precision, tmp_path):
    def interrupt(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(
            trt,
            half_precision["flow_encoder"],
            tmp_path / "o.plan",
            PlanOptions(compute_capability=("sm_89",)),
            interrupt,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"compute_capability": ("sm_90",)}, "sm_90 is not a target .* sm_75, sm_80, sm_86, sm_89", id="hopper"
        ),
        pytest.param({"compute_capability": ("sm_89",), "refit": True}, "--refit cannot be combined", id="refit"),
        pytest.param({"compute_capability": ("sm_89",), "strip_plan": True}, "--strip-plan cannot", id="strip"),
        pytest.param({"compute_capability": ("sm_89",), "version_compatible": True}, "--version-compatible", id="vc"),
    ],
)
def test_what_the_library_cannot_do_without_a_gpu_is_refused_up_front(trt, options, message):
    with pytest.raises(UsageError, match=message):
        check_options("tensorrt-rtx", trt, PlanOptions(**options))


def test_enterprise_tensorrt_takes_no_targets_and_its_absence_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # what an import of a missing package meets
    with pytest.raises(UsageError, match="tensorrt builds for the present GPU only"):
        check_options("tensorrt", SimpleNamespace(), PlanOptions(compute_capability=("sm_89",)))
    with pytest.raises(EngineError, match=r"pip install 'hero-runtime\[tensorrt\]'"):
        load_module("tensorrt")


def test_pool_limits_are_polygraphys():
    assert parse_workspace("workspace:8G") == 8 << 30
    assert parse_workspace("workspace:0.5M") == 1 << 19
    with pytest.raises(UsageError, match="'8G' is not workspace:SIZE"):
        parse_workspace("8G")


def test_the_command_builds_a_plan(half_precision, tmp_path, capsys):
    arguments = [half_precision["vae_decoder"], tmp_path / "out.plan", "--compute-capability", "sm_89"]
    assert run(hero_export.cli.main, "plan", *arguments) == 0
    assert "convolution" in capsys.readouterr().err
    assert run(hero_export.cli.main, "plan", tmp_path / "no.onnx", tmp_path / "x.plan") == 2
