"""Holds one builder for each format. A new format is a file here, one in hero_rt/engines, a line in each registry."""

import importlib

from hero_export.builders.builder import Builder, BuilderOptions, EngineJob, Made
from hero_rt.errors import UsageError

__all__ = ["BUILDERS", "Builder", "BuilderOptions", "EngineJob", "Made", "find_builder"]

BUILDERS = {  # format: module and name of its builder
    "onnxruntime": "hero_export.builders.onnxruntime:BUILDER",
    "tensorrt": "hero_export.builders.tensorrt:TENSORRT",
    "tensorrt-rtx": "hero_export.builders.tensorrt:TENSORRT_RTX",
    "aoti": "hero_export.builders.aoti:BUILDER",
}


def find_builder(format: str) -> Builder:
    """Return the builder of an engine format. Raises UsageError, which names the known formats."""
    if format not in BUILDERS:
        raise UsageError(f"engine format {format!r} is not one of {', '.join(BUILDERS)}")
    module, name = BUILDERS[format].split(":")
    return getattr(importlib.import_module(module), name)
