"""Where the time of a call goes, by operator."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.schema import OperatorTime
from benchmarks.timing import synchronize

ROWS = 15


def profile_operators(call: Callable[[], object], device: torch.device) -> list[OperatorTime]:
    """The longest operators of one warm call: kernels on a GPU, whoever launched them; PyTorch's own on a CPU.

    Empty where PyTorch sees less than half of the time: compiled code and other libraries on a CPU.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    call()
    synchronize(device)
    with profile(activities=activities) as seen:
        started = time.perf_counter()
        call()
        synchronize(device)
        elapsed = time.perf_counter() - started
    events = seen.key_averages()
    if on_gpu:  # a user annotation spans kernels that are listed themselves
        events = [e for e in events if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    times = [(e.key, e.count, (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 1e6) for e in events]
    if not on_gpu and sum(seconds for _, _, seconds in times) < elapsed / 2:
        return []
    return _longest(times)


def profile_onnx(path: Path) -> list[OperatorTime]:
    """The same of an ONNX file on the CPU, on random inputs, by ONNX Runtime's own profiler."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs = {i.name: random.normal(size=i.shape).astype(np.float32) for i in session.get_inputs()}
        for _ in range(2):  # the first warms up
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    second = max(event["ts"] for event in events if event["name"] == "model_run")
    kernels = [event for event in events if event["name"].endswith("_kernel_time") and event["ts"] >= second]
    spent: dict[str, list[float]] = {}
    for event in kernels:
        spent.setdefault(event["args"]["op_name"], []).append(event["dur"] / 1e6)
    return _longest([(name, len(seconds), sum(seconds)) for name, seconds in spent.items()])


def _longest(times: list[tuple[str, int, float]]) -> list[OperatorTime]:
    total = sum(seconds for _, _, seconds in times)
    times = sorted((row for row in times if row[2] > 0), key=lambda row: -row[2])[:ROWS]
    return [OperatorTime(operator=key[:120], calls=n, seconds=spent, share=spent / total) for key, n, spent in times]
