"""Times one denoising step on a prepared window, with every engine format and every kind of cache."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, profiler
from torch.autograd import DeviceType

from benchmarks.clip import pan_for
from benchmarks.contenders import BASELINE, UNCACHED, BuiltEngines, RawFeatureEngines, UncachedEngines, without
from benchmarks.context import Context
from benchmarks.measure import Contender, compare, measure
from benchmarks.roofline import bytes_of, submodule_work
from benchmarks.schema import Case, OperatorTime, Verification
from benchmarks.timing import device_clock, synchronize
from hero_rt.engines.eager import EagerEngines
from hero_rt.engines.engine import EngineSet
from hero_rt.spec.profile import Profile
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import prepare_window

ROUNDS = 3, 20
TIMESTEP = 501.0
OPERATORS = 15  # the longest of a profile


def unet_step(context: Context) -> Iterator[Case]:
    """Time one denoising step: both baselines, torch.compile and every engine format."""
    settings, clock = context.settings, device_clock(context.device)
    with context.contenders(compiled=True) as sets:
        for profile in settings.profiles():
            step = PreparedStep(context, profile, UncachedEngines)
            calls = {name: context.attempt(f"{name} {profile}", partial(step.of, sets[name])) for name in sets}
            contenders = {name: Contender(call, step.check) for name, call in calls.items() if call is not None}
            work = submodule_work(settings.preset, settings.dtype, "unet_step", profile)
            case = measure(context, context.case_name(profile), contenders, clock, ROUNDS, work)
            for m, _ in case.timed():
                key = f"{m.name} {profile}"
                look = partial(_operators, context, sets[m.name], profile, contenders[m.name].call)
                context.operators[key] = context.attempt(f"profile of {key}", look) or []
            yield case


def _operators(
    context: Context, engines: EngineSet, profile: Profile, call: Callable[[], Tensor]
) -> list[OperatorTime]:
    if isinstance(engines, BuiltEngines) and engines.format == "onnxruntime" and context.device.type == "cpu":
        folder = engines.folder(profile)
        if record := folder.manifest.find("unet_step", profile):
            return profile_onnx(folder.folder / record.file)
    return profile_operators(call, context.device)


class PreparedStep:
    """Holds constants of a window and a noisy sample, made by the reference, in the dtype of the run."""

    def __init__(self, context: Context, profile: Profile, *kinds: type[EagerEngines]):
        """Prepare the step. kinds: further engine sets whose constants are prepared."""
        self.context, self.profile = context, profile
        clip, request = pan_for(profile, profile.frames, steps=1)
        frames = clip.stack()
        arguments = (profile, request.frame.canvas(clip.width, clip.height), frames, optical_flow(frames))
        truth = context.truth
        cached = self.constants = prepare_window(truth, *arguments)
        for kind in kinds:
            self.constants = prepare_window(kind(truth.model), *arguments) | self.constants
        step = truth.open("unet_step", profile)
        sample = torch.randn(step.inputs["sample"].shape, generator=torch.Generator().manual_seed(0))
        self._given = {"sample": sample.to(context.device), "timestep": torch.tensor([TIMESTEP], device=context.device)}
        with step.bind(cached) as binding:
            self.want = step.run(binding, **self._given)["noise_pred"]

    def of(self, engines: EngineSet) -> Callable[[], Tensor]:
        """Return a call that runs the step of an engine, with its constants bound."""
        engine = engines.open("unet_step", self.profile)
        constants = {name: spec for name, spec in engine.inputs.items() if name not in self._given}
        binding = engine.bind({name: self.constants[name].to(spec.dtype) for name, spec in constants.items()})
        return lambda: engine.run(binding, **self._given)["noise_pred"]

    def check(self, got: Tensor) -> Verification:
        return compare(got, self.want, self.context.limits.per_output, self.context.truth_name)


def caching(context: Context) -> Iterator[Case]:
    """Time a step with nothing cached, raw features cached, and projections cached."""
    kinds = {BASELINE: EagerEngines, "eager-raw-features": RawFeatureEngines, UNCACHED: UncachedEngines}
    sets = {name: kind(context.model) for name, kind in kinds.items()}
    for profile in context.settings.profiles():
        step = PreparedStep(context, profile, *kinds.values())
        contenders = {name: Contender(step.of(engines), step.check) for name, engines in sets.items()}
        work = submodule_work(context.settings.preset, context.settings.dtype, "unet_step", profile)
        case = measure(context, context.case_name(profile), contenders, device_clock(context.device), ROUNDS, work)
        for m, _ in case.timed():
            held = without(sets[m.name].open("unet_step", profile).inputs, "sample", "timestep")
            m.figures["bound_bytes"] = float(bytes_of(held))
        yield case


def profile_operators(call: Callable[[], object], device: torch.device) -> list[OperatorTime]:
    """Return the longest operators of one warm call: all kernels on a GPU, PyTorch's operators on a CPU.

    The list is empty if PyTorch sees less than half of the time, as for compiled code on a CPU.
    """
    on_gpu = device.type == "cuda"
    call()
    synchronize(device)
    with profiler.profile() as seen:
        started = time.perf_counter()
        call()
        synchronize(device)
        elapsed = time.perf_counter() - started
    events = seen.key_averages()
    if on_gpu:  # a user annotation spans kernels that are listed too
        events = [e for e in events if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    times = [(e.key, e.count, (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 1e6) for e in events]
    if not on_gpu and sum(seconds for _, _, seconds in times) < elapsed / 2:
        return []
    return _longest(times)


def profile_onnx(path: Path) -> list[OperatorTime]:
    """Return the longest operators of an ONNX file on the CPU by ONNX Runtime's profiler, on random inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        inputs = {i.name: random.normal(size=i.shape).astype(np.float32) for i in session.get_inputs()}
        for _ in range(2):  # the first call warms up
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
    times = sorted((row for row in times if row[2] > 0), key=lambda row: -row[2])[:OPERATORS]
    return [OperatorTime(operator=key[:120], calls=n, seconds=spent, share=spent / total) for key, n, spent in times]
