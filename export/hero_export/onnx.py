"""Writes one submodule as an ONNX file, with its weights in a file of their own."""

import ast
import functools
import hashlib
import logging
import shutil
import subprocess
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import onnxscript
import torch
from onnx.external_data_helper import ExternalDataInfo
from onnxscript.ir.passes.common import InlinePass

from hero_export import operator_forms
from hero_export.trace import axis_names, input_ranges, trace
from hero_kernels.onnx import DOMAIN, TRANSLATIONS, add_functions
from hero_rt import __version__
from hero_rt.atomic import atomic_path, publish
from hero_rt.models.hero import HeroModel
from hero_rt.spec.boundary import submodule_boundary
from hero_rt.spec.profile import AnyProfile

OPSET = 21  # the first with GroupNormalization's stash_type, which states FP32 statistics
GraphForm = Literal["standard", "inlined", "onnxruntime"]
_OUTSIDE = ("", "_empty_nn_module_stack_from_metadata_hook")  # torch.export's words for no module
_INLINE_BELOW = 1024  # bytes; smaller tensors stay in the graph, where runtimes fold them


@dataclass(frozen=True)
class OnnxExport:
    """The files of an export and its figures. `weights_by_type` is in bytes."""

    path: Path
    weights: Path
    nodes: int
    hero_nodes: int
    weights_by_type: dict[str, int]  # bytes
    seconds: float
    operators: dict[str, int]
    ranges: dict[str, list[tuple[int, ...]]]  # smallest, typical, largest shape of each input that varies


def export_onnx(
    model: HeroModel,
    submodule: str,
    profile: AnyProfile,
    path: Path,
    form: GraphForm = "standard",
    checkpoint: str = "",
) -> OnnxExport:
    """Write `path` and, beside it, its weights in `<submodule>-<sha256>.data`. Check the file with onnx.checker.

    The name of the weights is their content, so the profiles of one model share them. `submodule_io` names inputs and
    outputs. Nodes are named by the path of their module and their operator.

    Args:
        model: the checkpoint, in the dtype of the graph.
        submodule: its name.
        profile: a shape, or a range of shapes.
        path: the .onnx file to write.
        form: "standard" has ONNX operators, and a hero node with a function for each temporal attention. "inlined" has
            the function's operators in place of the hero nodes, for TensorRT without a plugin. "onnxruntime" has the
            forms that ONNX Runtime has kernels for (see operator_forms).
        checkpoint: the name of the weights in the file's metadata.

    Raises:
        UsageError: the model has no static graph (a synced flow encoder).
    """
    started = time.perf_counter()
    inputs, outputs = submodule_boundary(submodule, model.config, profile, model.dtype)
    names = axis_names(submodule, model.config, profile)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            trace(model, submodule, profile),
            dynamo=True,
            optimize=False,  # done below, where weights are folded too
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(names.values()),
            custom_translation_table=TRANSLATIONS | operator_forms.translations(form == "onnxruntime"),
            verbose=False,
        )
    assert program is not None
    graph_model = program.model
    onnxscript.optimizer.optimize_ir(graph_model, should_fold=_should_fold, inline=False)
    add_functions(graph_model, operator_forms.MultiHeadAttention)
    hero_nodes = sum(node.domain == DOMAIN for node in graph_model.graph)
    if form == "inlined":
        InlinePass()(graph_model)
    _name_nodes(graph_model, submodule)
    graph_model.graph.name = submodule
    graph_model.producer_name, graph_model.producer_version = "hero-export", __version__
    graph_model.metadata_props.update(
        {
            "checkpoint": checkpoint,
            "model": model.config.name,
            "submodule": submodule,
            "profile": str(profile),
            "dtype": str(model.dtype).removeprefix("torch."),
            "hero-runtime": __version__,
            "commit": _commit(),
            "torch": torch.__version__,
        }
    )
    weights = _save(graph_model, path, submodule)
    onnx.checker.check_model(path)
    return OnnxExport(
        path=path,
        weights=weights,
        nodes=len(graph_model.graph),
        hero_nodes=hero_nodes,
        weights_by_type=_weights_by_type(graph_model),
        seconds=time.perf_counter() - started,
        operators=dict(Counter(node.op_type for node in graph_model.graph).most_common()),
        ranges=input_ranges(submodule, model.config, profile),
    )


@functools.cache
def _commit() -> str:
    """Return the commit of this checkout, with "-dirty" if a tracked file changed, or "" for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _name_nodes(model: onnxscript.ir.Model, submodule: str) -> None:
    """Name each node MODULE.PATH/Operator, numbered from the second on; drop the exporter's metadata.

    A node outside the modules, for instance the size of an input, has the name of the submodule as its path.

    The metadata holds the module path, and also source paths and stack traces of the exporting machine.
    """
    paths: dict[onnxscript.ir.Node | None, str] = {}
    seen: Counter[str] = Counter()
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))  # ends with the FX node
        producer = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        # a node of the optimizer has no scope, and gets its input's module
        scope = scopes[-2] if len(scopes) > 1 else paths.get(producer, submodule)
        paths[node] = submodule if scope in _OUTSIDE else scope
        name = f"{paths[node]}/{node.op_type}"
        node.name = f"{name}_{seen[name]}" if seen[name] else name
        seen[name] += 1
        node.metadata_props.clear()


def _weights_by_type(model: onnxscript.ir.Model) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            sizes[value.const_value.dtype.name.lower()] += value.const_value.nbytes
    return dict(sizes)


def _should_fold(node: onnxscript.ir.Node) -> bool | None:
    """Return whether to fold a node. None leaves the decision to the optimizer.

    Linear layers are MatMul(x, Transpose(weight)). Every such transpose is folded, so that loading does not compute it.
    Nodes that repeat constants for the guidance rows are not folded: the guided profile would need its own weights.
    """
    if node.op_type == "Transpose":
        return True
    first = node.inputs[0] if node.inputs else None
    if node.op_type == "Concat" and first is not None and first.dtype is not None and first.dtype.is_floating_point():
        return False
    return None


def _save(model: onnxscript.ir.Model, path: Path, submodule: str) -> Path:
    with atomic_path(path) as graph:
        data = graph.with_suffix(".data")
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
        publish(data, weights)
    _remove_unused_weights(path.parent, submodule)
    return weights


def _remove_unused_weights(folder: Path, submodule: str) -> None:
    """Delete weight files of `submodule` that no graph of the folder names. They belong to replaced graphs."""
    graphs = [onnx.load(path, load_external_data=False).graph for path in folder.glob("*.onnx")]
    used = {ExternalDataInfo(tensor).location for graph in graphs for tensor in graph.initializer}
    for path in folder.glob(f"{submodule}-*.data"):
        if path.name not in used:
            path.unlink()
