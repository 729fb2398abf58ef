"""Export one attention and build it for SM 8.9: `build_engine.py GRAPH.onnx DTYPE [PLUGIN.so]`; prints a JSON line.

A process of its own: TensorRT-RTX aborts where it fails, and a loaded plugin stays registered.
"""

import json
import sys

import onnxscript
import tensorrt_rtx as trt
import torch
from torch import nn

from hero_kernels import temporal_attention_im3
from hero_kernels.onnx import TRANSLATIONS, add_functions


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([0.3]))

    def forward(self, q, k, v):
        return temporal_attention_im3(q, k, v, self.alpha, 8)


class Log(trt.ILogger):
    def __init__(self):
        super().__init__()
        self.lines = []

    def log(self, severity, message):
        if severity <= trt.ILogger.WARNING:
            self.lines.append(message)


def main(graph: str, dtype: str, plugin: str | None = None) -> None:
    inputs = tuple(torch.zeros(1, 16, 64, 320, dtype=getattr(torch, dtype)) for _ in range(3))
    with torch.no_grad():
        program = torch.onnx.export(
            torch.export.export(Attention(), inputs), dynamo=True, optimize=False, opset_version=21,
            custom_translation_table=TRANSLATIONS, verbose=False,
        )  # fmt: skip
    add_functions(program.model)
    onnxscript.ir.save(program.model, graph)

    log = Log()
    builder = trt.Builder(log)
    if plugin:
        trt.get_plugin_registry().load_library(plugin)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(graph), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None, log.lines
    report = {
        "layers": [network.get_layer(i).type.name for i in range(network.num_layers)],
        "engine_bytes": engine.nbytes,
        "unused_inputs": [line for line in log.lines if "Unused Input" in line],
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
