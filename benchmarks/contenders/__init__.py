"""What is timed against what: engine sets by name, the two baselines first."""

from benchmarks.contenders.built import AUTOTUNED, BuiltEngines
from benchmarks.contenders.compiled import CompiledEngines
from benchmarks.contenders.uncached import UncachedEngines
from benchmarks.settings import Settings
from hero_rt.engines.backend import BACKENDS
from hero_rt.engines.eager import EagerEngines
from hero_rt.engines.engine import EngineSet
from hero_rt.errors import UsageError
from hero_rt.models.hero import HeroModel

BASELINE = "eager-cached"  # this project's model, references cached
UNCACHED = "eager-uncached"  # RefNet and flow encoder recomputed every step
COMPILED = {"compile": "default", "compile-max-autotune": "max-autotune"}
KNOWN = (BASELINE, UNCACHED, *COMPILED, *BACKENDS, f"aoti{AUTOTUNED}")


def contender_names(settings: Settings, compiled: bool) -> list[str]:
    """Both baselines always; then what was asked for, or every format (and torch.compile where `compiled`)."""
    if unknown := [name for name in settings.only if name not in KNOWN]:
        raise UsageError(f"unknown contender {unknown[0]!r}; known: {', '.join(KNOWN)}")
    return list(dict.fromkeys([BASELINE, UNCACHED, *(settings.only or [*(COMPILED if compiled else ()), *BACKENDS])]))


def open_contender(settings: Settings, name: str, model: HeroModel) -> EngineSet:
    """`model` is what the eager ones run. Raises EngineError where a format does not run here."""
    if name in (BASELINE, UNCACHED):
        return EagerEngines(model) if name == BASELINE else UncachedEngines(model)
    if name in COMPILED:
        return CompiledEngines(model, COMPILED[name])
    return BuiltEngines(settings, name)
