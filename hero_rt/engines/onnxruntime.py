"""Runs ONNX Runtime engines on CPU and CUDA. Tensors are bound by address, so no input or output is copied."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor

from hero_rt.engines.engine import Binding, Engine
from hero_rt.engines.manifest import Target
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import Specs

_INSTALL = "install the extra for this machine: pip install '.[cpu]' or '.[gpu]'"


def _import_onnxruntime():
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"engine format onnxruntime needs the onnxruntime package; {_INSTALL}") from error
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def default_device() -> torch.device:
    """Return CUDA if both ONNX Runtime and PyTorch can use it, else the CPU."""
    providers = _import_onnxruntime().get_available_providers()
    return torch.device("cuda" if "CUDAExecutionProvider" in providers and torch.cuda.is_available() else "cpu")


def this_machine(device: torch.device) -> Target:
    """Return the library without a device: an ONNX graph runs on any device that the library supports."""
    return Target(library="onnxruntime", library_version=_import_onnxruntime().__version__)


def mismatch(built: Target, here: Target) -> str | None:
    """Compare releases. A graph runs on the release that it was built with, and on later ones."""
    if Version(here.library_version) < Version(built.library_version):
        return f"built with onnxruntime {built.library_version}, {here.library_version} is installed"
    return None


def open_engine(
    path: Path, inputs: Specs, outputs: Specs, workspace: Workspace, beside: Sequence[Path] = ()
) -> "OnnxRuntimeEngine":
    return OnnxRuntimeEngine(path, inputs, outputs, workspace)  # the graph names its weight file itself


class OnnxRuntimeEngine(Engine):
    """One ONNX file at one shape. All shapes of a file share its InferenceSession, whose runs may overlap."""

    def __init__(self, path: Path, inputs: Specs, outputs: Specs, workspace: Workspace):
        super().__init__(path.name, inputs, outputs, workspace.device)
        self._session = workspace.loaded(path, lambda: _open_session(path, workspace.device))

    def _bind(self, constants: Mapping[str, Tensor]) -> "_SessionBinding":
        dense = {name: tensor.contiguous() for name, tensor in constants.items()}
        binding = _SessionBinding(dense, self._session.io_binding())
        for name, tensor in dense.items():
            binding.session.bind_input(name, *_address(tensor))
        return binding

    def _run(self, binding: "_SessionBinding", inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = {name: tensor.contiguous() for name, tensor in inputs.items()}  # held until the run is over
        for name, tensor in given.items():
            binding.session.bind_input(name, *_address(tensor))
        results = self._new_outputs()
        for name, tensor in results.items():
            binding.session.bind_output(name, *_address(tensor))
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # the session runs on a stream of its own
        self._session.run_with_iobinding(binding.session)
        return results

    def _close(self) -> None:
        del self._session


class _SessionBinding(Binding):
    """session: ONNX Runtime's own binding, which holds addresses of tensors that `constants` keeps alive."""

    def __init__(self, constants: Mapping[str, Tensor], session: Any):
        super().__init__(constants)
        self.session = session


def _open_session(path: Path, device: torch.device) -> Any:
    ort = _import_onnxruntime()
    provider = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    if provider not in ort.get_available_providers():
        raise EngineError(f"onnxruntime {ort.__version__} has no {provider} here; {_INSTALL}")
    options = {"device_id": device.index or 0} if device.type == "cuda" else {}
    try:
        session = ort.InferenceSession(path, _session_options(ort), providers=[(provider, options)])
    except (
        ort.capi.onnxruntime_pybind11_state.Fail,
        ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ) as error:
        raise EngineError(f"{path}: onnxruntime {ort.__version__} cannot open it: {error}") from error
    if provider not in (running := session.get_providers()):  # it says nothing where CUDA's libraries do not load
        raise EngineError(
            f"{path}: onnxruntime {ort.__version__} fell back to {running[0]}: the libraries of {provider} do not "
            "load; install the CUDA and cuDNN that it was built for"
        )
    return session


def _session_options(ort):
    """Use PyTorch's thread count, so that OMP_NUM_THREADS and torch.set_num_threads limit both libraries."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # between two calls PyTorch computes, on the cores that the session's idle threads would spin on
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _address(tensor: Tensor) -> tuple[str, int, object, tuple[int, ...], int]:
    import numpy as np

    element = {torch.float32: np.float32, torch.float16: np.float16}[tensor.dtype]
    return tensor.device.type, tensor.device.index or 0, element, tuple(tensor.shape), tensor.data_ptr()
