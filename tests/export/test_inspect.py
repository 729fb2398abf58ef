"""What inspect tells of an ONNX folder equals what the files themselves hold."""

import json
from collections import Counter

import onnx
import pytest

import hero_export.cli
from hero_export.inspect import layer_listing
from hero_rt.engines import read_manifest
from hero_rt.errors import EngineError
from tests.test_commands import run


def test_operators_and_weights_are_those_of_the_files(engine_folder, tmp_path, capsys):
    report = tmp_path / "inspect.json"
    assert run(hero_export.cli.main, "inspect", engine_folder, "--json", report) == 0
    assert "fp32, for any device; all files intact" in capsys.readouterr().err
    found = json.loads(report.read_text())
    assert found["runs_here"] == "yes"
    manifest = read_manifest(engine_folder)
    for engine, told in zip(manifest.engines, found["engines"], strict=True):
        model = onnx.load(engine_folder / engine.file, load_external_data=False)
        assert told["layers"] == Counter(node.op_type for node in model.graph.node)
        assert told["weights_bytes"] == sum(manifest.files[name].bytes for name in engine.weights)
        assert sum(told["weights_by_type"].values()) == pytest.approx(told["weights_bytes"], rel=0.05)
        assert ("TemporalAttentionIM3" in told["attention"]) == (engine.contents["hero_nodes"] > 0)


def test_layers_are_listed_node_by_node(engine_folder):
    listing = layer_listing(engine_folder, "vae_decoder")
    engine = next(engine for engine in read_manifest(engine_folder).engines if engine.submodule == "vae_decoder")
    assert listing.count("[Op: ") == engine.contents["nodes"]
    with pytest.raises(EngineError, match="has no decoder engine; it holds flow_encoder, refnet"):
        layer_listing(engine_folder, "decoder")
