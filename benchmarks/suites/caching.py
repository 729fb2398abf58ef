"""What the cache saves a step: RefNet and flow encoder every step, raw features kept, projections kept."""

from collections.abc import Iterator

from benchmarks.contenders import BASELINE, UNCACHED
from benchmarks.contenders.uncached import (
    raw_features_step,
    reference_features,
    uncached_step,
    without,
)
from benchmarks.context import Context
from benchmarks.measure import Contender, measure
from benchmarks.roofline import bytes_of, submodule_work
from benchmarks.schema import Case
from benchmarks.suites.unet_step import REPEATS, WARMUP, PreparedStep
from hero_rt.engines.eager import EagerEngine
from hero_rt.engines.engine import Engine

RAW = "eager-raw-features"


def run(context: Context) -> Iterator[Case]:
    settings = context.settings
    for profile in settings.profiles():
        step = PreparedStep(context, profile)
        read = step.reads("condition", "clip_embeds", "openclip_embeds")
        step.add(reference_features(context.truth.model, profile, *read))
        engines: dict[str, Engine] = {
            BASELINE: EagerEngine(context.model, "unet_step", profile),
            RAW: raw_features_step(context.model, profile),
            UNCACHED: uncached_step(context.model, profile),
        }
        contenders = {}
        for name, engine in engines.items():
            held = {"bound_bytes": float(bytes_of(without(engine.inputs, "sample", "timestep")))}
            contenders[name] = Contender(step.bind(engine), step.check, held.copy)
        yield measure(
            context,
            f"{settings.preset} {profile} {settings.dtype}",
            contenders,
            baseline=BASELINE,
            clock=context.step_clock,
            warmup=WARMUP,
            repeats=REPEATS,
            work=submodule_work(settings.preset, settings.dtype, "unet_step", profile),
        )
