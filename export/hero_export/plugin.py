"""Chooses and registers the temporal-attention plugin of a plan."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hero_export.library_name import library_as
from hero_rt.errors import EngineError

LIBRARY_VARIABLE = "HERO_PLUGIN_LIBRARY"
_BUILT = Path("build/plugin/libhero_plugin.so")  # where `make plugin` leaves it, in the repository


def library_path() -> Path:
    """Return the path of the C++ plugin: $HERO_PLUGIN_LIBRARY, else the file that `make plugin` builds.

    It does not depend on the working directory.
    """
    import hero_kernels

    return Path(os.environ.get(LIBRARY_VARIABLE) or Path(hero_kernels.__file__).parents[2] / _BUILT)


def resolve_plugin(format: str, choice: str) -> str:
    """Replace `auto` by python, library or off, in this order of preference. Raises EngineError.

    A plan with the Python plugin needs no file beside it, so `python` comes first.
    """
    python = format == "tensorrt" and importlib.util.find_spec("triton") is not None
    library = library_path().is_file()
    if choice == "auto":
        return "python" if python else "library" if library else "off"
    if choice == "python" and not python:
        raise EngineError("--plugin python needs Triton: pip install '.[kernels]'")
    if choice == "library" and not library:
        raise EngineError(
            f"--plugin library: {library_path()} does not exist; run make plugin, or set {LIBRARY_VARIABLE}"
        )
    return choice


def explain(format: str, plugin: str) -> str:
    """Say in one line which plugin computes temporal attention, and why."""
    if plugin == "python":
        return "plugin python: the Triton kernel computes temporal attention"
    if plugin == "library":
        return f"plugin library: {library_path()} computes temporal attention"
    without = "plugin off: the library computes temporal attention from its parts"
    missing = "" if library_path().is_file() else f"; for the fused kernel run make plugin, or set {LIBRARY_VARIABLE}"
    return without + missing


def register(plugin: str, trt: Any) -> None:
    """Register the plugin with TensorRT. `off` registers nothing: temporal attention is built from its operators."""
    if plugin == "library":
        trt.get_plugin_registry().load_library(str(library_path()))
    elif plugin == "python":
        from hero_kernels.temporal_attention_im3 import tensorrt as python_plugin

        python_plugin.register()


@contextmanager
def loader_path(format: str) -> Iterator[None]:
    """Let processes that start while this is open parse plugin nodes with TensorRT-RTX.

    Its parser needs an unversioned library, which the wheel lacks. Without it the parser aborts the process.
    """
    found = importlib.util.find_spec("tensorrt_rtx_libs") if format == "tensorrt-rtx" else None
    if found is None or not found.submodule_search_locations:
        yield
        return
    name = "libtensorrt_rtx.so"
    versioned = next(Path(found.submodule_search_locations[0]).glob(f"{name}.*"))
    with library_as(name, versioned, "LD_LIBRARY_PATH"):
        yield
