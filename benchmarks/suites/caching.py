"""What the cache saves a step: RefNet and flow encoder every step, raw features kept, projections kept."""

from collections.abc import Iterator

from benchmarks.contenders import BASELINE, UNCACHED
from benchmarks.contenders.uncached import raw_features_step, reference_features, uncached_step, without
from benchmarks.context import Context
from benchmarks.measure import Contender, measure
from benchmarks.roofline import bytes_of, submodule_work
from benchmarks.schema import Case
from benchmarks.suites.unet_step import ROUNDS, PreparedStep
from benchmarks.timing import device_clock
from hero_rt.engines.eager import EagerEngine
from hero_rt.engines.engine import Engine


def run(context: Context) -> Iterator[Case]:
    for profile in context.settings.profiles():
        step = PreparedStep(context, profile)
        read = [step.constants[name] for name in ("condition", "clip_embeds", "openclip_embeds")]
        step.constants |= reference_features(context.truth.model, profile, *read)
        engines: dict[str, Engine] = {
            BASELINE: EagerEngine(context.model, "unet_step", profile),
            "eager-raw-features": raw_features_step(context.model, profile),
            UNCACHED: uncached_step(context.model, profile),
        }
        contenders = {name: Contender(step.bind(engine), step.check) for name, engine in engines.items()}
        work = submodule_work(context.settings.preset, context.settings.dtype, "unet_step", profile)
        case = measure(context, context.case_name(profile), contenders, device_clock(context.device), ROUNDS, work)
        for m in case.measurements:
            if m.timing is not None:
                m.figures["bound_bytes"] = float(bytes_of(without(engines[m.name].inputs, "sample", "timestep")))
        yield case
