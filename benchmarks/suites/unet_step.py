"""One denoising step on a prepared window: both baselines, torch.compile and every engine format."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.clip import pan_for
from benchmarks.contenders import BASELINE, contender_names
from benchmarks.contenders.built import BuiltEngines
from benchmarks.contenders.uncached import UncachedEngines
from benchmarks.context import Context
from benchmarks.measure import Contender, compare, measure
from benchmarks.operators import profile_onnx, profile_operators
from benchmarks.roofline import submodule_work
from benchmarks.schema import Case, OperatorTime
from hero_export.verify import THRESHOLDS
from hero_rt.engines.engine import Engine, EngineSet
from hero_rt.spec.profile import Profile
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import prepare_window

WARMUP, REPEATS = 3, 20
TIMESTEP = 501.0


def run(context: Context) -> Iterator[Case]:
    sets = context.open(contender_names(context.settings, compiled=True))
    clock, on_gpu = context.step_clock, context.device.type == "cuda"
    for profile in context.settings.profiles():
        step = PreparedStep(context, profile)
        contenders = {}
        for name, engines in sets.items():
            call = context.attempt(f"{name} {profile}", partial(step.call_of, engines))
            if call is not None:
                contenders[name] = Contender(call, step.check)
        case = measure(
            context,
            f"{context.settings.preset} {profile} {context.settings.dtype}",
            contenders,
            baseline=BASELINE,
            clock=clock,
            warmup=WARMUP,
            repeats=REPEATS,
            work=submodule_work(context.settings.preset, context.settings.dtype, "unet_step", profile),
        )
        for measurement in case.measurements:
            if measurement.timing is not None:
                key = f"{measurement.name} {profile}"
                engines = sets[measurement.name]
                if isinstance(engines, BuiltEngines) and engines.format == "onnxruntime" and not on_gpu:
                    seen = context.attempt(f"profile of {key}", partial(_profile_graph, engines, profile))
                else:
                    call = contenders[measurement.name].call
                    seen = context.attempt(f"profile of {key}", partial(profile_operators, call, context.device))
                context.operators[key] = seen or []
        yield case
    for engines in sets.values():
        engines.close()


def _profile_graph(engines: BuiltEngines, profile: Profile) -> list[OperatorTime]:
    return profile_onnx(engines.path("unet_step", profile))


class PreparedStep:
    """A window's constants and a noisy sample, from the truth, in the dtype that contenders read."""

    def __init__(self, context: Context, profile: Profile):
        self.context, self.profile = context, profile
        clip, frame = pan_for(profile, profile.frames)
        frames = clip.stack()
        arguments = (profile, frame.canvas(clip.width, clip.height), frames, optical_flow(frames))
        truth = context.truth
        cached = prepare_window(truth, *arguments)
        self._available = prepare_window(UncachedEngines(truth.model), *arguments) | cached
        generator = torch.Generator().manual_seed(0)
        step = truth.open("unet_step", profile)
        self._given = {
            "sample": torch.randn(step.inputs["sample"].shape, generator=generator).to(context.device),
            "timestep": torch.tensor([TIMESTEP], device=context.device),
        }
        with step.bind(cached) as binding:
            self.want = step.run(binding, **self._given)["noise_pred"]

    def reads(self, *names: str) -> list[Tensor]:
        """Constants of the truth by name."""
        return [self._available[name] for name in names]

    def add(self, constants: dict[str, Tensor]) -> None:
        """More that engines may read."""
        self._available |= constants

    def bind(self, engine: Engine) -> Callable[[], Tensor]:
        """The step of an engine whose constants are bound."""
        constants = {name: spec for name, spec in engine.inputs.items() if name not in self._given}
        binding = engine.bind({name: self._available[name].to(spec.dtype) for name, spec in constants.items()})
        return lambda: engine.run(binding, **self._given)["noise_pred"]

    def call_of(self, engines: EngineSet) -> Callable[[], Tensor]:
        return self.bind(engines.open("unet_step", self.profile))

    def check(self, got: Tensor):
        limit = THRESHOLDS[self.context.settings.dtype].per_output
        return compare(got, self.want, limit, self.context.truth_name)
