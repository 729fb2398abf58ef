"""The TensorRT engine on a GPU that is not there; its names against the real library and the NvInfer headers."""

import ast
import inspect
import logging
import weakref
from pathlib import Path

import kernel_lens
import pytest
import tensorrt_rtx as real
import torch

import hero_export.tensorrt_log
import hero_export.tensorrt_plan
import hero_rt.engines.tensorrt
from hero_rt.engines.manifest import Target
from hero_rt.engines.tensorrt import TENSORRT, TENSORRT_RTX, TensorRTEngine
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import FREE, TensorSpec
from tests.runtime.engines import fake_gpu
from tests.runtime.engines.fake_gpu import FakeCuda, QueuedCopies, fake_tensorrt

INPUTS = {"x": TensorSpec((2, 3), torch.float32), "c": TensorSpec((2, 3), torch.float16)}
OUTPUTS = {"y": TensorSpec((2, 3), torch.float32)}
CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setattr(torch, "cuda", cuda)
    with QueuedCopies(cuda):
        yield cuda


def open_engine(gpu, tmp_path, workspace=None, plan=b"a plan", inputs=INPUTS, **kwargs) -> TensorRTEngine:
    path = tmp_path / "unet_step.plan"
    path.write_bytes(plan)
    return TensorRTEngine(fake_tensorrt(gpu, **kwargs), path, inputs, OUTPUTS, workspace or Workspace(CPU))


def values(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator).half()


def test_bound_and_given_inputs_reach_the_engine_and_results_are_the_callers_own(gpu, tmp_path):
    engine = open_engine(gpu, tmp_path)
    (x, c), (x2, c2) = values(0), values(1)
    with engine.bind({"c": c}) as mine, engine.bind({"c": c2}) as other:
        given = (mine, x), (mine, x2), (other, x), (mine, x.T.contiguous().T)
        results = [engine.run(binding, x=value)["y"] for binding, value in given]
    want = [2 * x + c, 2 * x2 + c, 2 * x + c2, 2 * x + c]
    assert all(torch.equal(got, expected) for got, expected in zip(results, want, strict=True))


def test_a_context_is_used_again_once_its_binding_is_closed_and_by_one_binding_at_a_time(gpu, tmp_path):
    engine = open_engine(gpu, tmp_path)
    x, c = values(0)
    with engine.bind({"c": c}) as first, engine.bind({"c": 2 * c}) as second:
        assert first.slot is not second.slot
        used = {id(first.slot), id(second.slot)}
    with engine.bind({"c": c}) as third:
        assert id(third.slot) in used
        assert torch.equal(engine.run(third, x=x)["y"], 2 * x + c)
    with pytest.raises(EngineError, match="this binding is closed; bind the constants again"):
        engine.run(third, x=x)


def test_windows_share_buffers_where_memory_holds_no_more_and_keep_their_own_constants(gpu, tmp_path, caplog):
    engine = open_engine(gpu, tmp_path, contexts=2)
    x, c = values(0)
    bindings = [engine.bind({"c": factor * c}) for factor in range(1, 6)]
    assert len({id(binding.slot) for binding in bindings}) == 2
    assert "unet_step.plan: windows share buffers" in caplog.text
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 0, 2, 2, 4, 0]):
        for number in order:
            assert torch.equal(engine.run(bindings[number], x=x)["y"], 2 * x + (number + 1) * c)
    for binding in bindings[1:]:
        binding.close()
    assert torch.equal(engine.run(bindings[0], x=x)["y"], 2 * x + c)
    gpu.calls.clear()
    engine.run(bindings[0], x=x)
    assert gpu.calls.count("copy") == 2  # the input and the result
    bindings[0].close()


def test_an_engine_that_memory_does_not_hold_once_is_refused_on_opening(gpu, tmp_path):
    with pytest.raises(EngineError, match=r"unet_step\.plan: no execution context; is there enough GPU memory"):
        open_engine(gpu, tmp_path, contexts=0)


def test_the_second_call_is_captured_and_later_ones_only_launch(gpu, tmp_path):
    engine = open_engine(gpu, tmp_path)
    x, c = values(0)
    order = []
    for _ in range(3):
        gpu.calls.clear()
        engine(x=x, c=c)
        order.append([call for call in gpu.calls if call not in ("copy",)])
    assert order[0] == ["own waits", "enqueue", "torch waits"]
    assert order[1] == ["own waits", "pool", "begin-capture", "enqueue", "end-capture", "replay", "torch waits"]
    assert order[2] == ["own waits", "replay", "torch waits"]


def test_an_engine_that_cannot_be_captured_says_so_and_runs(monkeypatch, gpu, tmp_path, caplog):
    gpu.capturable = False
    engine = open_engine(gpu, tmp_path)
    x, c = values(0)
    with caplog.at_level(logging.WARNING):
        assert all(torch.equal(engine(x=x, c=c)["y"], 2 * x + c) for _ in range(3))
    assert caplog.text.count("unet_step.plan runs without a CUDA graph") == 1
    assert "capture invalidated" in caplog.text
    assert gpu.current is gpu.own


def test_engines_of_a_folder_share_one_stream_and_one_scratch(gpu, tmp_path):
    workspace = Workspace(CPU, scratch_bytes=4096)
    engines = [open_engine(gpu, tmp_path, workspace) for _ in range(2)]
    assert len(gpu.streams) == 2  # PyTorch's and the folder's
    assert workspace.scratch(1).numel() == 4096
    bindings = [engine.bind() for engine in engines]
    assert len({binding.slot._context._memory for binding in bindings}) == 1
    for binding in bindings:
        binding.close()
    larger = workspace.scratch(5000)
    assert larger.numel() == 5000
    x, c = values(0)
    assert all(torch.equal(engine(x=x, c=c)["y"], 2 * x + c) for engine in engines)


def test_one_plan_serves_every_shape_of_its_range_and_is_loaded_once(gpu, tmp_path):
    workspace = Workspace(CPU)
    trt = fake_tensorrt(gpu, shape=(FREE, 3))
    path = tmp_path / "unet_step.plan"
    path.write_bytes(b"a plan")
    engines = []
    for rows in (2, 4):
        inputs, outputs = ({k: TensorSpec((rows, 3), v.dtype) for k, v in side.items()} for side in (INPUTS, OUTPUTS))
        engines.append(TensorRTEngine(trt, path, inputs, outputs, workspace))
    path.unlink()
    for engine, rows in zip(engines, (2, 4), strict=True):
        x, c = torch.randn(rows, 3), torch.randn(rows, 3).half()
        assert torch.equal(engine(x=x, c=c)["y"], 2 * x + c)
    with pytest.raises(EngineError, match=r"unet_step\.plan: input 'x' cannot be float32\[5, 3\]"):
        TensorRTEngine(
            trt,
            path,
            {k: TensorSpec((5, 3), v.dtype) for k, v in INPUTS.items()},
            {"y": TensorSpec((5, 3), torch.float32)},
            workspace,
        )


def test_closing_waits_for_the_work_and_gives_memory_back(gpu, tmp_path):
    workspace = Workspace(CPU)
    engine = open_engine(gpu, tmp_path, workspace)
    x, c = values(0)
    binding = engine.bind({"c": c})
    kept = weakref.ref(binding.slot.buffers["x"]), weakref.ref(workspace.scratch(1)), weakref.ref(binding.slot._context)
    engine.run(binding, x=x)
    binding.close()
    del binding
    engine.close()
    workspace.close()
    assert [stream.queue for stream in gpu.streams] == [[], []]
    assert [ref() for ref in kept] == [None] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"plan": b"not a plan"}, "cannot load it: Serialization assertion failed; rebuild", id="damaged"),
        pytest.param(
            {"inputs": INPUTS | {"x": TensorSpec((2, 4), torch.float32)}},
            r"tensor 'x' is float32\[2, 3\], the manifest says float32\[2, 4\]; rebuild", id="shape",
        ),
        pytest.param({"inputs": {"x": INPUTS["x"]}}, r"tensor 'c' is float16\[2, 3\], the manifest says None", id="names"),
    ],
)  # fmt: skip
def test_a_plan_that_is_not_what_the_manifest_says_is_refused_by_name(gpu, tmp_path, options, message):
    with pytest.raises(EngineError, match=f"unet_step.plan: .*{message}") as caught:
        open_engine(gpu, tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_wrong_inputs_and_a_failing_run_name_the_engine(gpu, tmp_path):
    x, c = values(0)
    engine = open_engine(gpu, tmp_path, failing=True)
    with pytest.raises(EngineError, match=r"unet_step\.plan: it does not run: out of luck; rebuild"):
        engine(x=x, c=c)
    with pytest.raises(EngineError, match=r"unet_step\.plan: input 'c' is neither bound nor given"):
        engine(x=x)
    with pytest.raises(EngineError, match=r"unet_step\.plan: input 'x' is float16"):
        engine(x=c, c=c)
    with pytest.raises(EngineError, match=r"input 'x' is on meta, the engine runs on cpu"):
        engine(x=x.to("meta"), c=c)


HERE = Target(library="tensorrt", library_version="10.14.1.48", gpu="NVIDIA H100", compute_capabilities=["sm_90"])


@pytest.mark.parametrize(
    ("built", "message"),
    [
        pytest.param({}, None, id="same"),
        pytest.param({"library_version": "10.14.1.12"}, None, id="same-release"),
        pytest.param({"library_version": "10.13.3.9"}, "built with tensorrt 10.13.3.9, 10.14.1.48 is installed", id="older"),
        pytest.param({"library_version": "10.13.3.9", "version_compatible": True}, None, id="older-compatible"),
        pytest.param({"library_version": "11.1.0", "version_compatible": True}, "built with tensorrt 11.1.0", id="newer"),
        pytest.param({"compute_capabilities": ["sm_89", "sm_120"]}, r"built for sm_89, sm_120, this is NVIDIA H100 \(sm_90\)", id="other-gpu"),
        pytest.param({"compute_capabilities": ["sm_89", "sm_90"]}, None, id="one-of-several"),
        pytest.param({"compute_capabilities": ["sm_80+"]}, None, id="ampere-plus"),
        pytest.param({"compute_capabilities": ["sm_100+"]}, "built for sm_100+", id="later-only"),
    ],
)  # fmt: skip
def test_a_manifest_says_whether_its_plans_run_here(built, message):
    seen = TENSORRT.mismatch(HERE.model_copy(update=built), HERE)
    if message is None:
        assert seen is None
    else:
        assert seen is not None
        assert message.replace("\\", "") in seen


def test_without_a_gpu_the_device_is_refused():
    with pytest.raises(EngineError, match="tensorrt-rtx engines run on NVIDIA GPUs; device cpu is not one"):
        TENSORRT_RTX.this_machine(CPU)


@pytest.mark.parametrize("name", fake_gpu.STANDS_FOR)
def test_the_fake_has_no_name_that_the_real_library_lacks(name):
    own = {"logger", "cuda", "failing", "tensors", "contexts"}
    fake, owner = (
        (fake_tensorrt(FakeCuda()).Runtime if name == "Runtime" else getattr(fake_gpu, name)),
        fake_gpu.STANDS_FOR[name],
    )
    assert {n for n in vars(fake) if not n.startswith("_")} - own <= set(dir(owner))


def test_the_fake_cuda_has_no_name_that_the_real_one_lacks():
    names = {name for name in vars(FakeCuda) if not name.startswith("_")} - {"put"}
    assert names <= set(dir(torch.cuda))
    assert {"wait_stream", "synchronize"} <= set(dir(torch.cuda.Stream))  # cuda_stream: only where PyTorch has CUDA
    assert [*inspect.signature(torch.cuda.graph).parameters][:4] == [*inspect.signature(FakeCuda().graph).parameters]


# every name that this code asks of TensorRT's objects, and what stands for it in NvInfer.h and its kin
CONSTANTS = {
    "BuilderFlag": "BuilderFlag", "DataType": "DataType", "ERROR": "kERROR", "ExecutionContextAllocationStrategy": "ExecutionContextAllocationStrategy",
    "FLOAT": "kFLOAT", "HALF": "kHALF", "HardwareCompatibilityLevel": "HardwareCompatibilityLevel", "ILogger": "ILogger",
    "INPUT": "kINPUT", "INTERNAL_ERROR": "kINTERNAL_ERROR", "IProgressMonitor": "IProgressMonitor", "MemoryPoolType": "MemoryPoolType",
    "NetworkDefinitionCreationFlag": "NetworkDefinitionCreationFlag", "OUTPUT": "kOUTPUT", "ProfilingVerbosity": "ProfilingVerbosity",
    "DETAILED": "kDETAILED", "REFIT": "kREFIT", "STRIP_PLAN": "kSTRIP_PLAN", "STRONGLY_TYPED": "kSTRONGLY_TYPED", "TF32": "kTF32",
    "PREFER_AOT_PYTHON_PLUGINS": "kPREFER_AOT_PYTHON_PLUGINS",
    "TensorIOMode": "TensorIOMode", "USER_MANAGED": "kUSER_MANAGED", "VERSION_COMPATIBLE": "kVERSION_COMPATIBLE", "WARNING": "kWARNING",
    "WORKSPACE": "kWORKSPACE", "Builder": "IBuilder", "Refitter": "IRefitter", "Runtime": "IRuntime",
}  # fmt: skip
METHODS = {
    "builder": (real.Builder, {"create_network": "createNetworkV2", "create_builder_config": "createBuilderConfig", "build_serialized_network": "buildSerializedNetwork", "create_optimization_profile": "createOptimizationProfile"}),
    "network": (real.INetworkDefinition, {"num_layers": "getNbLayers", "get_layer": "getLayer"}),
    "config": (real.IBuilderConfig, {
        "profiling_verbosity": "setProfilingVerbosity", "set_memory_pool_limit": "setMemoryPoolLimit", "set_flag": "setFlag", "clear_flag": "clearFlag",
        "builder_optimization_level": "setBuilderOptimizationLevel", "hardware_compatibility_level": "setHardwareCompatibilityLevel",
        "create_timing_cache": "createTimingCache", "set_timing_cache": "setTimingCache", "get_timing_cache": "getTimingCache",
        "progress_monitor": "setProgressMonitor", "add_optimization_profile": "addOptimizationProfile",
    }),
    "self._runtime": (real.Runtime, {"deserialize_cuda_engine": "deserializeCudaEngine"}),
    "self._engine": (real.ICudaEngine, {
        "create_execution_context": "createExecutionContext", "device_memory_size_v2": "getDeviceMemorySizeV2", "num_io_tensors": "getNbIOTensors",
        "get_tensor_name": "getIOTensorName", "get_tensor_mode": "getTensorIOMode", "get_tensor_shape": "getTensorShape",
        "get_tensor_dtype": "getTensorDataType",
    }),
    "shapes": (real.IOptimizationProfile, {"set_shape": "setDimensions"}),
    "context": (real.IExecutionContext, {"set_input_shape": "setInputShape", "set_device_memory": "setDeviceMemoryV2"}),
    "self._context": (real.IExecutionContext, {"set_tensor_address": "setTensorAddress", "execute_async_v3": "enqueueV3"}),
    "refitter": (real.Refitter, {"refit_cuda_engine": "refitCudaEngine"}),
}  # fmt: skip
# the ONNX parser's header is not in the package; targets are TensorRT-RTX's alone
ELSEWHERE = {
    "__name__",
    "__version__",
    "__init__",
    "get_plugin_registry()",
    "load_library",
    "OnnxParser",
    "OnnxParserRefitter",
    "ComputeCapability",
}
RTX_ONLY = {"num_compute_capabilities", "set_compute_capability"}


@pytest.fixture(scope="module")
def used() -> dict[str, set[str]]:
    """Attributes that the builder and the engine take, by what they take them from."""
    found: dict[str, set[str]] = {}
    for module in (hero_export.tensorrt_plan, hero_export.tensorrt_log, hero_rt.engines.tensorrt):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute):
                owner, *rest = ast.unparse(node.value).split(".")
                owner = "trt" if owner in ("trt", "creation") else ".".join((owner, *rest))
                found.setdefault(owner, set()).add(node.attr)
    return found


@pytest.fixture(scope="module")
def headers() -> str:
    folder = Path(kernel_lens.__path__[0], "include", "tensorrt")
    return "\n".join(path.read_text() for path in folder.glob("NvInfer*.h"))


def test_every_constant_that_the_code_asks_for_is_in_the_real_module_and_in_the_headers(used, headers):
    assert used["trt"] - ELSEWHERE - {"get_plugin_registry"} == CONSTANTS.keys()
    assert {name for name, native in CONSTANTS.items() if native not in headers} == set()
    scopes = [real, *(getattr(real, name) for name in CONSTANTS if hasattr(real, name))]
    lacking = {name for name in CONSTANTS if not any(hasattr(scope, name) for scope in scopes)}
    assert lacking == {"PREFER_AOT_PYTHON_PLUGINS"}  # TensorRT-RTX has no Python plugins


@pytest.mark.parametrize("owner", METHODS)
def test_every_method_that_the_code_calls_is_in_the_real_module_and_in_the_headers(used, headers, owner):
    kind, names = METHODS[owner]
    assert used[owner] - RTX_ONLY == names.keys()
    assert {name for name in used[owner] if not hasattr(kind, name)} == set()
    assert {native for native in names.values() if f"{native}(" not in headers} == set()
