"""One submodule as an ONNX file: torch.export, torch's ONNX exporter, clean-up, weights in a file of their own."""

import hashlib
import logging
import os
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxscript
import torch

from hero_export import operator_forms
from hero_export.trace import trace
from hero_kernels.onnx import DOMAIN, TRANSLATIONS, add_functions
from hero_rt.models.hero import HeroModel
from hero_rt.spec.boundary import submodule_boundary
from hero_rt.spec.profile import AnyProfile

OPSET = 21  # the first whose GroupNormalization states its FP32 statistics (stash_type)
_INLINE_BELOW = 1024  # bytes: smaller tensors stay in the graph, where runtimes fold them


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and the figures of the summary."""

    path: Path
    weights: Path
    nodes: int
    hero_nodes: int
    graph_bytes: int
    weights_bytes: int
    weights_by_type: dict[str, int]  # bytes
    seconds: float
    operators: dict[str, int]


def export_onnx(
    model: HeroModel, submodule: str, profile: AnyProfile, path: Path, for_onnxruntime: bool = False
) -> OnnxExport:
    """Write `path` and, beside it, its weights in `<submodule>-<sha256>.data`; check the file with onnx.checker.

    The weights' name is their content, so that the profiles of one model share them. Inputs and outputs are named as
    `submodule_io` says. for_onnxruntime: in the forms that runtime has kernels for (see operator_forms).
    Raises UsageError for a model that has no static graph (a synced flow encoder).
    """
    started = time.perf_counter()
    inputs, outputs = submodule_boundary(submodule, model.config, profile, model.dtype)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            trace(model, submodule, profile),
            dynamo=True,
            optimize=False,  # done below, with weights folded too
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            custom_translation_table=TRANSLATIONS | operator_forms.translations(for_onnxruntime),
            verbose=False,
        )
    assert program is not None
    graph_model = program.model
    onnxscript.optimizer.optimize_ir(graph_model, should_fold=_should_fold, inline=False)
    add_functions(graph_model, operator_forms.MultiHeadAttention)
    for node in graph_model.graph:
        node.metadata_props.clear()  # source paths and stack traces of the exporting machine

    path.parent.mkdir(parents=True, exist_ok=True)
    weights = _save(graph_model, path, submodule)
    onnx.checker.check_model(path)
    operators = Counter(node.op_type for node in graph_model.graph)
    return OnnxExport(
        path=path,
        weights=weights,
        nodes=len(graph_model.graph),
        hero_nodes=sum(node.domain == DOMAIN for node in graph_model.graph),
        graph_bytes=path.stat().st_size,
        weights_bytes=weights.stat().st_size,
        weights_by_type=_weights_by_type(graph_model),
        seconds=time.perf_counter() - started,
        operators=dict(operators.most_common()),
    )


def _weights_by_type(model: onnxscript.ir.Model) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            sizes[value.const_value.dtype.name.lower()] += value.const_value.nbytes
    return dict(sizes)


def _should_fold(node: onnxscript.ir.Node) -> bool | None:
    """True or False decides; None leaves it to the optimizer.

    Linear layers come as MatMul(x, Transpose(weight)); folding every such transpose keeps it out of each load. What
    repeats constants for the guidance rows stays in the graph: folded, the guided profile would have its own weights.
    """
    if node.op_type == "Transpose":
        return True
    first = node.inputs[0] if node.inputs else None
    if node.op_type == "Concat" and first is not None and first.dtype is not None and first.dtype.is_floating_point():
        return False
    return None


def _save(model: onnxscript.ir.Model, path: Path, submodule: str) -> Path:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".onnx-") as scratch:
        graph, data = Path(scratch) / "graph.onnx", Path(scratch) / "weights.data"
        onnxscript.ir.save(model, graph, external_data=data.name, size_threshold_bytes=_INLINE_BELOW)
        with data.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        weights = path.parent / f"{submodule}-{digest[:16]}.data"
        proto = onnx.load(graph, load_external_data=False)
        for tensor in proto.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = weights.name
        onnx.save(proto, graph)
        os.replace(data, weights)
        os.replace(graph, path)
    _remove_unused_weights(path.parent, submodule)
    return weights


def _remove_unused_weights(folder: Path, submodule: str) -> None:
    """Delete weight files of `submodule` that no graph of the folder names: those of graphs that were replaced."""
    graphs = [onnx.load(path, load_external_data=False).graph for path in folder.glob("*.onnx")]
    used = {
        entry.value
        for graph in graphs
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for path in folder.glob(f"{submodule}-*.data"):
        if path.name not in used:
            path.unlink()
