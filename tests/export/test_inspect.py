"""What inspect tells of engines equals what the files themselves hold."""

import json
import zipfile
from collections import Counter

import onnx
import pytest

import hero_export.cli
from hero_export.builders import find_builder
from hero_export.builders.aoti import package_kernels
from hero_export.inspect import computes_attention, layer_listing
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
        assert sum(told["contents"]["weights_by_type"].values()) == pytest.approx(told["weights_bytes"], rel=0.05)
        assert ("TemporalAttentionIM3" in told["attention"]) == (engine.contents["hero_nodes"] > 0)


def test_kernels_of_a_gpus_package_are_counted_where_they_are_launched(tmp_path):
    """A launcher is defined once and called often; its kernel's source, a comment, names it too."""
    wrapper = """
static inline void call_triton_poi_fused_add_0(
    /*
    def triton_poi_fused_add_0(in_ptr0):
    */
) { launchKernel(kernels_.triton_poi_fused_add_0); }
static inline void call_temporal_attention_im3_kernel_0() {}
void run() {
    call_triton_poi_fused_add_0(buf1);
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cuda_mm_out(buf2, buf1));
    call_temporal_attention_im3_kernel_0(buf2);
    call_triton_poi_fused_add_0(buf3);
}
"""
    with zipfile.ZipFile(tmp_path / "unet_step.pt2", "w") as package:
        package.writestr("package/data/aotinductor/model/x.wrapper.cpp", wrapper)
    assert package_kernels(tmp_path / "unet_step.pt2") == {
        "triton_poi_fused_add_0": 2, "aoti_torch_cuda_mm_out": 1, "temporal_attention_im3_kernel_0": 1
    }  # fmt: skip


def test_a_projection_of_an_attention_module_is_no_attention(tmp_path):
    projection = "gemm: unet.mid_block.attentions.0.attn1.to_q/MatMul + unet.mid_block.attentions.0.attn1/Reshape_1"
    fused = "kgen: __myl_Fc unet.mid_block.attentions.0.attn1/MatMul...unet.mid_block.attentions.0.attn1/Softmax"
    contents = {"network": {"MATRIX_MULTIPLY": 3, "SOFTMAX": 1}, "layers": [projection, fused]}
    layers, names = find_builder("tensorrt").inspect(tmp_path / "unet_step.plan", contents)
    assert layers == contents["network"]
    assert [name for name in names if computes_attention(name)] == ["SOFTMAX", "kgen: __myl_Fc MatMul...Softmax"]


def test_layers_are_listed_node_by_node(engine_folder):
    listing = layer_listing(engine_folder, "vae_decoder")
    engine = next(engine for engine in read_manifest(engine_folder).engines if engine.submodule == "vae_decoder")
    assert listing.count("[Op: ") == engine.contents["nodes"]
    with pytest.raises(EngineError, match="has no decoder engine; it holds flow_encoder, refnet"):
        layer_listing(engine_folder, "decoder")
