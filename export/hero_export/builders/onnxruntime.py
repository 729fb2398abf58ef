"""Builds format onnxruntime: an ONNX graph in the forms that ONNX Runtime has kernels for."""

from pathlib import Path
from typing import Any

from hero_export.builders.builder import Builder, EngineJob, Made, graph_contents


class OnnxRuntimeBuilder(Builder):
    format = "onnxruntime"
    suffix = ".onnx"

    def flags(self, options: Any) -> dict[str, Any]:
        from hero_export.onnx import OPSET

        return {"opset": OPSET}

    def make(self, job: EngineJob) -> Made:
        done = job.export(job.path, "onnxruntime")
        return Made(graph_contents(done), (done.weights,))

    def layer_listing(self, path: Path, engine: Any, why_not_here: str | None) -> str:
        import onnx

        return polygraphy_util("onnx").str_from_onnx(onnx.load(path, load_external_data=False), show_layers=True)


def polygraphy_util(backend: str) -> Any:
    """Return polygraphy's printer of graphs or engines. Raises HeroError if polygraphy is missing."""
    import importlib

    from hero_rt.errors import HeroError

    try:
        return importlib.import_module(f"polygraphy.backend.{backend}.util")
    except ImportError as error:
        raise HeroError("inspect --layers needs polygraphy: pip install polygraphy") from error


BUILDER = OnnxRuntimeBuilder()
