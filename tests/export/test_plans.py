"""hero-tiny's six submodules as TensorRT-RTX plans for three kinds of GPU, really built, on a machine with none."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.comparator import Comparator, CosineSimilarityCompareFunc, IterationResult, RunResults, SnrCompareFunc

import hero_export.build
import hero_export.cli
import hero_rt.cli
from hero_export.build import build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings, build_key
from hero_export.onnx import export_onnx
from hero_export.thresholds import THRESHOLDS
from hero_rt.engines import open_engines, read_manifest
from hero_rt.engines.eager import EagerEngine
from hero_rt.engines.manifest import sha256_of
from hero_rt.errors import EngineError
from hero_rt.models import HeroModel
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile
from tests.test_commands import run

pytestmark = pytest.mark.xdist_group("plans")
TARGETS = ("sm_80", "sm_89", "sm_120")
PROFILE = Profile(64, 64, 16)
PLANS = BuildSettings.of(
    Checkpoint("random", "hero-tiny"),
    format="tensorrt-rtx",
    dtype="fp16",
    compute_capabilities=TARGETS,
    plugin="off",
)
REORDERED = {"refnet", "flow_encoder"}  # by the builder, equal layers of theirs: docs/decisions.md
ATTENTIONS = {"refnet": 19 * 2, "flow_encoder": 8 * 2, "unet_step": 20 * 2}  # temporal, each a softmax


QUICK = ("unet_step", "vae_encoder", "vae_decoder")  # the other three take as long again
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in SUBMODULES if name not in QUICK]


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plans") / "engines"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hero_export.build, "SUBMODULES", QUICK)
        build_engines(PLANS, folder, [PROFILE], jobs=2)
    return folder


@pytest.fixture(scope="module")
def all_plans(plans, tmp_path_factory) -> Path:
    folder = Path(shutil.copytree(plans, tmp_path_factory.mktemp("all-plans") / "engines"))
    build_engines(PLANS, folder, [PROFILE], jobs=2)
    return folder


@pytest.fixture
def folder_with(request, submodule) -> Path:
    return request.getfixturevalue("plans" if submodule in QUICK else "all_plans")


@pytest.mark.parametrize("submodule", [*QUICK, *SLOW])
def test_a_plan_is_built_for_its_targets_from_the_layers_that_the_graph_holds(folder_with, submodule):
    manifest = read_manifest(folder_with)
    engine = manifest.find(submodule, PROFILE)
    assert engine is not None
    told, operators = engine.contents, engine.contents["operators"]
    assert manifest.target.compute_capabilities == list(TARGETS)
    assert manifest.files[engine.file].bytes > told["weights_by_type"]["float16"] > 0
    assert "float" not in told["weights_by_type"] or told["weights_by_type"]["float"] < 1e4
    assert told["network"]["CONVOLUTION"] == operators["Conv"]
    norms = operators.get("GroupNormalization", 0) + operators.get("LayerNormalization", 0)
    assert told["network"]["NORMALIZATION"] == norms
    # with no plugin the graph holds the operators of each temporal attention
    assert told["hero_nodes"] == ATTENTIONS.get(submodule, 0)
    assert "TemporalAttentionIM3" not in operators
    assert told["network"]["SOFTMAX"] == operators.get("Softmax", 0) >= told["hero_nodes"]
    assert told["layers"]
    assert told["activation_bytes"] > 0
    assert told["device_weights_bytes"] > told["weights_by_type"]["float16"] * 0.8
    assert told["warnings"] == []
    assert len(told["onnx_sha256"]) == 64


def test_plans_do_not_open_without_their_gpu_and_the_message_says_so(plans):
    with pytest.raises(EngineError, match="tensorrt-rtx engines run on NVIDIA GPUs; device cuda is not one"):
        open_engines(plans)


def test_the_rebuild_command_repeats_the_options(plans):
    command = read_manifest(plans).rebuild_command(plans)
    wanted = "--format tensorrt-rtx --dtype fp16 --profile 64x64x16 --compute-capabilities sm_80 sm_89 sm_120"
    assert wanted in command
    assert "--plugin off --out" in command


@pytest.mark.slow
def test_a_build_from_nothing_repeats(all_plans, tmp_path):
    """Exported and built again, each submodule in another process: the same graphs, layers, memory, sizes and bytes."""
    build_engines(PLANS, tmp_path / "again", [PROFILE], jobs=2)
    manifests = [read_manifest(folder) for folder in (all_plans, tmp_path / "again")]
    first, again = ({e.submodule: e.contents | {"export_seconds": None} for e in m.engines} for m in manifests)
    assert len(first) == len(SUBMODULES)
    assert first == again
    first, again = ({e.submodule: m.files[e.file] for e in m.engines} for m in manifests)
    assert {name: file.bytes for name, file in first.items()} == {name: file.bytes for name, file in again.items()}
    repeated = set(SUBMODULES) - REORDERED
    assert {name: first[name] for name in repeated} == {name: again[name] for name in repeated}


def test_a_repeated_build_keeps_every_plan(plans, monkeypatch):
    monkeypatch.setattr(hero_export.build, "SUBMODULES", QUICK)
    kept = []
    build_engines(PLANS, plans, [PROFILE], lambda done, reused: kept.append(reused))
    assert kept == [True] * len(QUICK)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"compute_capabilities": ("sm_89",)}, id="targets"),
        pytest.param({"pool_limit": "workspace:1G"}, id="workspace"),
        pytest.param({"builder_optimization_level": 0}, id="level"),
    ],
)
def test_the_key_covers_the_options(change):
    changed = replace(PLANS, options=PLANS.options.model_copy(update=change))
    assert len({build_key(settings, "unet_step", PROFILE, {}, "") for settings in (PLANS, changed)}) == 2


def test_the_key_does_not_cover_what_changes_no_plan():
    verbose = replace(PLANS, options=PLANS.options.model_copy(update={"verbose": True}))
    assert len({build_key(settings, "unet_step", PROFILE, {}, "") for settings in (PLANS, verbose)}) == 1


@pytest.mark.parametrize("submodule", ["vae_decoder", pytest.param("flow_encoder", marks=pytest.mark.slow)])
def test_the_graph_behind_a_plan_has_the_models_numbers(folder_with, tiny, tmp_path, submodule):
    """polygraphy runs the same graph with ONNX Runtime and judges it: SNR = -20 log10(relative L2)."""
    model = HeroModel.random("hero-tiny", dtype=torch.float16)
    graph = export_onnx(model, submodule, PROFILE, tmp_path / f"{submodule}.onnx", "inlined").path
    engine = read_manifest(folder_with).find(submodule, PROFILE)
    assert engine is not None
    assert sum(engine.contents["operators"].values()) == len(onnx.load(graph, load_external_data=False).graph.node)
    generator = torch.Generator().manual_seed(0)
    wide = {t.name: torch.randn(t.shape, generator=generator).half().float() for t in engine.inputs}
    truth = EagerEngine(tiny, submodule, PROFILE)(**wide)
    with OnnxrtRunner(SessionFromOnnx(str(graph))) as runner:
        outputs = runner.infer({name: value.half().numpy() for name, value in wide.items()})
        got = IterationResult({name: value.astype("float32") for name, value in outputs.items()})
    runs = RunResults([("graph", [got]), ("eager", [IterationResult({k: v.numpy() for k, v in truth.items()})])])
    decibels = -20 * torch.tensor(THRESHOLDS["fp16"].per_output).log10().item()
    judges = [SnrCompareFunc(snr_threshold=decibels), CosineSimilarityCompareFunc(cosine_similarity_threshold=0.999)]
    assert bool(Comparator.compare_accuracy(runs, compare_func=judges))


def test_inspect_tells_layers_memory_and_what_computes_attention(plans, tmp_path, capsys):
    report = tmp_path / "inspect.json"
    assert run(hero_export.cli.main, "inspect", plans, "--layers", "unet_step", "--json", report) == 0
    err = capsys.readouterr().err
    assert "tensorrt-rtx 1.7.1.116, fp16, for sm_80, sm_89, sm_120; all files intact" in err
    assert "runs here: no: tensorrt-rtx engines run on NVIDIA GPUs" in err
    assert "as its builder logged them (tensorrt-rtx engines run on NVIDIA GPUs" in err
    engines = {
        f"{engine['submodule']} {engine['profile']}": engine for engine in json.loads(report.read_text())["engines"]
    }
    step = engines["unet_step 64x64x16"]
    assert "SOFTMAX" in step["attention"]
    assert step["contents"]["activation_bytes"] > 0
    assert sum(step["layers"].values()) > 1000


def test_info_tells_targets_weights_and_whole_names(plans, capsys):
    assert run(hero_rt.cli.main, "info", plans) == 0
    out = capsys.readouterr().out
    assert "for sm_80, sm_89, sm_120; all files intact" in out
    engine = read_manifest(plans).find("unet_step", PROFILE)
    assert engine is not None
    row = next(line.strip("│ ").split(" │ ") for line in out.splitlines() if "unet_step" in line)
    assert row[0].strip() == "unet_step 64x64x16"
    assert float(row[2]) == pytest.approx(engine.contents["weights_by_type"]["float16"] / 2**20, rel=0.1)


def test_equal_graphs_have_equal_hashes(plans, tmp_path):
    model = HeroModel.random("hero-tiny", dtype=torch.float16)
    path = tmp_path / "vae_encoder.64x64x16.onnx"
    graph = export_onnx(model, "vae_encoder", PROFILE, path, "inlined", PLANS.checkpoint.label).path
    engine = read_manifest(plans).find("vae_encoder", PROFILE)
    assert engine is not None
    assert engine.contents["onnx_sha256"] == sha256_of(graph)
