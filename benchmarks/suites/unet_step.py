"""One denoising step on a prepared window: both baselines, torch.compile and every engine format."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.clip import pan_for
from benchmarks.contenders.built import BuiltEngines
from benchmarks.contenders.uncached import UncachedEngines
from benchmarks.context import Context
from benchmarks.measure import Contender, compare, measure
from benchmarks.operators import profile_onnx, profile_operators
from benchmarks.roofline import submodule_work
from benchmarks.schema import Case, OperatorTime, Verification
from benchmarks.timing import device_clock
from hero_rt.engines.engine import Engine, EngineSet
from hero_rt.spec.profile import Profile
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import prepare_window

ROUNDS = 3, 20
TIMESTEP = 501.0


def run(context: Context) -> Iterator[Case]:
    settings, clock = context.settings, device_clock(context.device)
    with context.contenders(compiled=True) as sets:
        for profile in settings.profiles():
            step = PreparedStep(context, profile)
            calls = {name: context.attempt(f"{name} {profile}", partial(step.of, sets[name])) for name in sets}
            contenders = {name: Contender(call, step.check) for name, call in calls.items() if call is not None}
            work = submodule_work(settings.preset, settings.dtype, "unet_step", profile)
            case = measure(context, context.case_name(profile), contenders, clock, ROUNDS, work)
            for m in case.measurements:
                call = calls[m.name]
                if m.timing is not None and call is not None:
                    key = f"{m.name} {profile}"
                    look = partial(_operators, context, sets[m.name], profile, call)
                    context.operators[key] = context.attempt(f"profile of {key}", look) or []
            yield case


def _operators(
    context: Context, engines: EngineSet, profile: Profile, call: Callable[[], Tensor]
) -> list[OperatorTime]:
    if isinstance(engines, BuiltEngines) and engines.format == "onnxruntime" and context.device.type == "cpu":
        return profile_onnx(engines.file("unet_step", profile))
    return profile_operators(call, context.device)


class PreparedStep:
    """A window's constants and a noisy sample, from the truth, in the dtype that contenders read."""

    def __init__(self, context: Context, profile: Profile):
        self.context, self.profile = context, profile
        clip, frame = pan_for(profile, profile.frames)
        frames = clip.stack()
        arguments = (profile, frame.canvas(clip.width, clip.height), frames, optical_flow(frames))
        truth = context.truth
        cached = prepare_window(truth, *arguments)
        self.constants = prepare_window(UncachedEngines(truth.model), *arguments) | cached
        step = truth.open("unet_step", profile)
        sample = torch.randn(step.inputs["sample"].shape, generator=torch.Generator().manual_seed(0))
        self._given = {"sample": sample.to(context.device), "timestep": torch.tensor([TIMESTEP], device=context.device)}
        with step.bind(cached) as binding:
            self.want = step.run(binding, **self._given)["noise_pred"]

    def bind(self, engine: Engine) -> Callable[[], Tensor]:
        """The step of an engine whose constants are bound."""
        constants = {name: spec for name, spec in engine.inputs.items() if name not in self._given}
        binding = engine.bind({name: self.constants[name].to(spec.dtype) for name, spec in constants.items()})
        return lambda: engine.run(binding, **self._given)["noise_pred"]

    def of(self, engines: EngineSet) -> Callable[[], Tensor]:
        return self.bind(engines.open("unet_step", self.profile))

    def check(self, got: Tensor) -> Verification:
        return compare(got, self.want, self.context.limits.per_output, self.context.truth_name)
