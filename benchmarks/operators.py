"""Where the time of a call goes, by operator."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.schema import OperatorTime
from benchmarks.timing import synchronize

ROWS = 15


def profile_operators(call: Callable[[], object], device: torch.device) -> list[OperatorTime]:
    """The longest operators of one warm call: kernels on a GPU, whoever launched them; PyTorch's own on a CPU.

    Empty where the work is done outside PyTorch and no GPU shows it (ONNX Runtime on a CPU).
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    call()
    synchronize(device)
    with profile(activities=activities) as seen:
        call()
        synchronize(device)
    events = [e for e in seen.key_averages() if not on_gpu or e.device_type == torch.autograd.DeviceType.CUDA]
    times = [(e.key, e.count, (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 1e6) for e in events]
    total = sum(seconds for _, _, seconds in times)
    times = sorted((row for row in times if row[2] > 0), key=lambda row: -row[2])[:ROWS]
    return [
        OperatorTime(operator=key[:120], calls=count, seconds=seconds, share=seconds / total)
        for key, count, seconds in times
    ]
