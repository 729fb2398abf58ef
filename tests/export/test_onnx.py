"""What an exported graph is: checked files, the design's names, one hero node an attention, FP32 where it matters."""

import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnxruntime as ort
import pytest
import torch

import hero_rt
from hero_export.checkpoint import Checkpoint
from hero_export.onnx import export_onnx
from hero_export.operator_forms import MultiHeadAttention
from hero_rt.engines import read_manifest
from hero_rt.engines.eager import EagerEngines
from hero_rt.engines.onnxruntime import OnnxRuntimeEngine
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import UsageError
from hero_rt.models import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import SUBMODULES, submodule_io
from hero_rt.spec.profile import Profile

PROFILE = Profile(64, 64, 16)
HERO_NODES = {"refnet": 19 * 2, "flow_encoder": 8 * 2, "unet_step": 20 * 2}  # two attentions a motion module


def graphs(folder):
    manifest = read_manifest(folder)
    return {(engine.submodule, engine.profile): folder / engine.file for engine in manifest.engines}


def test_every_submodule_and_profile_is_a_valid_file_with_external_weights(engine_folder):
    files = graphs(engine_folder)
    assert {name for name, _ in files} == set(SUBMODULES)
    assert ("unet_step", "128x64x16-cfg") in files
    for path in files.values():
        onnx.checker.check_model(path)
        model = onnx.load(path, load_external_data=False)
        assert next(o.version for o in model.opset_import if o.domain == "") >= 20
        large = [t for t in model.graph.initializer if len(t.dims) and t.data_location == onnx.TensorProto.EXTERNAL]
        assert large
        assert path.stat().st_size < 2 * 2**20


def test_inputs_and_outputs_are_named_and_shaped_as_the_boundary_says(engine_folder, tiny):
    for (name, profile), path in graphs(engine_folder).items():
        graph = onnx.load(path, load_external_data=False).graph
        inputs, outputs = submodule_io(name, tiny.config, Profile.parse(profile), torch.float32)
        for side, specs in ((graph.input, inputs), (graph.output, outputs)):
            seen = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in side}
            assert seen == {tensor: spec.shape for tensor, spec in specs.items()}


def test_boundary_names_are_the_designs(tiny):
    inputs, outputs = submodule_io("unet_step", tiny.config, Profile(128, 64, 16, True), torch.float16)
    attentions = [f"{name}.{i}" for name in ("ref_k", "ref_v", "clip_v", "openclip_k", "openclip_v") for i in range(16)]
    residuals = [f"flow_residual.{j}" for j in range(13)]
    assert list(inputs) == ["sample", "timestep", "condition", *attentions, *residuals]
    assert {name for name, spec in inputs.items() if spec.dtype == torch.float32} == {"sample", "timestep"}
    assert outputs["noise_pred"].shape == (32, 4, 8, 16)
    assert outputs["noise_pred"].dtype == torch.float32


def test_temporal_attention_is_one_hero_node_with_its_function_in_the_file(engine_folder):
    for (name, _), path in graphs(engine_folder).items():
        model = onnx.load(path, load_external_data=False)
        nodes = [node for node in model.graph.node if node.domain == "hero"]
        assert len(nodes) == HERO_NODES.get(name, 0)
        for node in nodes:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            assert attributes == {"num_heads": 2, "plugin_namespace": b"hero", "plugin_version": b"1"}
        functions = [f.name for f in model.functions if f.domain == "hero"]
        assert functions == (["TemporalAttentionIM3"] if nodes else [])


def test_the_function_of_an_attention_is_softmax_of_scaled_products_times_values():
    """Run by ONNX's own evaluator, which knows no kernel of that name; against float64."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, tokens, 24)).astype(np.float32) for tokens in (5, 9, 9))
    evaluator = onnx.reference.ReferenceEvaluator(MultiHeadAttention.to_function_proto())
    attributes = {"num_heads": 3, "scale": 0.25}
    (got,) = evaluator.run(None, {"query": query, "key": key, "value": value}, attributes=attributes)
    q, k, v = (x.astype(np.float64).reshape(2, -1, 3, 8).swapaxes(1, 2) for x in (query, key, value))
    weights = np.exp(0.25 * q @ k.swapaxes(2, 3))
    want = (weights / weights.sum(-1, keepdims=True)) @ v
    np.testing.assert_allclose(got, want.swapaxes(1, 2).reshape(2, 5, 24), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["vae_decoder", "unet_step"])
def test_onnx_runtime_takes_its_own_attention_and_no_function_of_group_norm(engine_folder, tmp_path, name):
    path = next(path for (submodule, _), path in graphs(engine_folder).items() if submodule == name)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(path, options)
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node)
    graph = Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    assert ran["MultiHeadAttention"] == graph["MultiHeadAttention"] > 0
    assert ran["Softmax"] == HERO_NODES.get(name, 0)  # of the temporal attentions
    assert ran["InstanceNormalization"] == graph["InstanceNormalization"] > 0
    assert ran["ReduceMean"] == 0


def test_the_graph_of_a_plan_has_standard_operators_and_heros_alone(tiny, tmp_path):
    path = export_onnx(tiny, "flow_encoder", PROFILE, tmp_path / "flow_encoder.onnx").path
    model = onnx.load(path, load_external_data=False)
    assert {node.domain for node in model.graph.node} == {"", "hero"}
    kinds = {node.op_type for node in model.graph.node}
    assert {"Softmax", "GroupNormalization"} < kinds
    assert "InstanceNormalization" not in kinds


def test_nodes_are_named_by_the_modules_of_the_model(engine_folder, tiny):
    """A convolution's node has the path of its module, which owns the weight that it reads."""
    modules = [{path for path, _ in build_submodule(tiny, name, PROFILE).named_modules()} for name in SUBMODULES]
    known = {name: paths - {""} | {name} for name, paths in zip(SUBMODULES, modules, strict=True)}
    for (submodule, _), path in graphs(engine_folder).items():
        nodes = onnx.load(path, load_external_data=False).graph.node
        assert len({node.name for node in nodes}) == len(nodes)
        for node in nodes:
            module, operator = node.name.rsplit("/", 1)
            assert operator.split("_")[0] == node.op_type
            assert module in known[submodule]
            if node.op_type == "Conv":
                assert node.input[1] == f"{module}.weight"


def test_metadata_names_weights_shapes_and_versions(engine_folder):
    root = Path(__file__).parents[2]
    commit = ""
    if (root / ".git").exists():
        told = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        commit = told.stdout.strip()
    for (submodule, profile), path in graphs(engine_folder).items():
        model = onnx.load(path, load_external_data=False)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata.pop("commit").removesuffix("-dirty") == commit
        assert metadata == {
            "checkpoint": "random hero-tiny, seed 0",
            "model": "hero-tiny",
            "submodule": submodule,
            "profile": profile,
            "dtype": "float32",
            "hero-runtime": hero_rt.__version__,
            "torch": torch.__version__,
        }
        assert (model.producer_name, model.graph.name) == ("hero-export", submodule)


def test_a_local_checkpoint_is_named_without_its_folders(tmp_path):
    (tmp_path / "mine").mkdir()
    assert Checkpoint(str(tmp_path / "mine")).label == "mine"
    assert Checkpoint("somebody/hero").label == "somebody/hero"


def test_inlined_attentions_have_the_models_numbers_and_a_name_each(tiny, tmp_path):
    path = export_onnx(tiny, "flow_encoder", PROFILE, tmp_path / "flow_encoder.onnx", "inlined").path
    model = onnx.load(path, load_external_data=False)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    softmaxes = [node.name for node in model.graph.node if node.op_type == "Softmax" and "motion_modules" in node.name]
    assert len(set(softmaxes)) == HERO_NODES["flow_encoder"]
    inputs, outputs = submodule_io("flow_encoder", tiny.config, PROFILE, torch.float32)
    torch.manual_seed(0)
    values = {name: torch.randn(spec.shape) for name, spec in inputs.items()}
    got = OnnxRuntimeEngine(path, inputs, outputs, Workspace(torch.device("cpu")))(**values)
    for name, want in EagerEngines(tiny).open("flow_encoder", PROFILE)(**values).items():
        assert (got[name] - want).norm() / want.norm() < 1e-4


def test_nothing_of_the_exporting_machine_is_in_the_files(engine_folder):
    for path in graphs(engine_folder).values():
        data = path.read_bytes()
        assert b"site-packages" not in data
        assert b".py" not in data


def test_profiles_share_one_set_of_weights(engine_folder):
    steps = [e for e in read_manifest(engine_folder).engines if e.submodule == "unet_step"]
    assert len(steps) == 2
    assert steps[0].weights == steps[1].weights


@pytest.fixture(scope="module")
def half_precision(tmp_path_factory):
    folder = tmp_path_factory.mktemp("half")
    model = HeroModel.random("hero-tiny", dtype=torch.float16)
    return {
        name: export_onnx(model, name, PROFILE, folder / f"{name}.onnx").path for name in ("flow_encoder", "semantic")
    }


def test_half_precision_graphs_keep_softmax_and_norm_statistics_in_fp32(half_precision):
    softmax_inputs = set()
    for path in half_precision.values():
        model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
        types = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.input)}
        for node in model.graph.node:
            if node.op_type == "Softmax":
                softmax_inputs.add(types[node.input[0]])
            if node.op_type in ("GroupNormalization", "LayerNormalization"):
                stash = {a.name: a.i for a in node.attribute}.get("stash_type", 1)
                assert stash == onnx.TensorProto.FLOAT
        assert not any(node.op_type == "InstanceNormalization" for node in model.graph.node)
        assert types[model.graph.input[0].name] == onnx.TensorProto.FLOAT16
    assert softmax_inputs == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("placement", ["module", pytest.param("output", marks=pytest.mark.slow)])
def test_the_other_im3_placements_export_as_standard_operators(tiny, tmp_path, placement):
    """They blend outside the attention: hero::im3_blend, which needs no node of its own."""
    model = HeroModel.random(replace(tiny.config, im3_placement=placement))
    path = export_onnx(model, "flow_encoder", PROFILE, tmp_path / "flow_encoder.onnx").path
    inputs, outputs = submodule_io("flow_encoder", model.config, PROFILE, torch.float32)
    torch.manual_seed(0)
    values = {name: torch.randn(spec.shape) for name, spec in inputs.items()}
    got = OnnxRuntimeEngine(path, inputs, outputs, Workspace(torch.device("cpu")))(**values)
    want = EagerEngines(model).open("flow_encoder", PROFILE)(**values)
    for name, value in want.items():
        assert (got[name] - value).norm() / value.norm() < 1e-4
    default = EagerEngines(tiny).open("flow_encoder", PROFILE)(**values)["flow_residual.12"]
    assert (default - want["flow_residual.12"]).norm() / default.norm() > 1e-3


def test_a_synced_flow_encoder_is_not_exported(tiny, tmp_path):
    synced = HeroModel.random(replace(tiny.config, ofe_timestep="synced"))
    with pytest.raises(UsageError, match="eager only; it cannot be exported"):
        export_onnx(synced, "unet_step", PROFILE, tmp_path / "unet_step.onnx")
    assert list(tmp_path.iterdir()) == []


def test_manifest_is_json_with_hashes_of_every_file(engine_folder):
    manifest = json.loads((engine_folder / "manifest.json").read_text())
    listed = set(manifest["files"])
    on_disk = {path.name for path in engine_folder.iterdir() if path.suffix in (".onnx", ".data")}
    assert listed == on_disk
    assert manifest["target"]["library"] == "onnxruntime"
