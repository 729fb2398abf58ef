"""An engine set that counts what is run and remembers what was bound."""

from collections import Counter
from collections.abc import Callable, Mapping

from torch import Tensor

from hero_rt.engines import Engine, EngineSet
from hero_rt.profile import Profile


class RecordingEngine:
    def __init__(self, name: str, engine: Engine, log: "RecordingEngines"):
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._name, self._engine, self._log = name, engine, log

    def bind(self, constants: Mapping[str, Tensor]) -> None:
        self._log.bound.append({name: tensor.clone() for name, tensor in constants.items()})
        self._engine.bind(constants)

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        self._log.runs[self._name] += 1
        self._log.on_run(self._name, inputs)
        return self._engine(**inputs)

    def close(self) -> None:
        self._engine.close()


class RecordingEngines:
    """Wraps an engine set; `runs` counts calls by submodule, `bound` holds every binding in order."""

    def __init__(self, engines: EngineSet):
        self._engines = engines
        self.config, self.dtype, self.device = engines.config, engines.dtype, engines.device
        self.runs: Counter[str] = Counter()
        self.bound: list[dict[str, Tensor]] = []
        self.on_run: Callable[[str, dict[str, Tensor]], object] = lambda name, inputs: None

    def open(self, submodule: str, profile: Profile) -> RecordingEngine:
        return RecordingEngine(submodule, self._engines.open(submodule, profile), self)

    def close(self) -> None:
        self._engines.close()
