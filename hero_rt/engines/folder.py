"""Opens an engine folder as an engine set, after checking it against its manifest."""

from pathlib import Path

import torch

from hero_rt.engines.backend import backend
from hero_rt.engines.engine import Engine, EngineSet
from hero_rt.engines.manifest import EngineRecord, check_files, read_manifest
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import submodule_io
from hero_rt.spec.profile import Profile


class EngineFolder(EngineSet):
    """Opens a folder whole or not at all: every file is hashed. Engines are made when they are first needed."""

    def __init__(self, folder: Path, device: str | None = None):
        self.folder, self.manifest = folder, read_manifest(folder)
        self._backend = backend(self.manifest.build.format)
        chosen = torch.device(device) if device else self._backend.default_device()
        super().__init__(self.manifest.config, self.manifest.dtype, chosen)
        here = self._backend.this_machine(self.device)
        if difference := self._backend.mismatch(self.manifest.target, here):
            raise EngineError(f"{folder} was {difference}; rebuild: {self.manifest.rebuild_command(folder)}")
        check_files(folder, self.manifest)
        # a plan's scratch is what its builder counted, so the first engine's fits the largest
        scratch = max(engine.contents.get("activation_bytes", 0) for engine in self.manifest.engines)
        self._workspace = Workspace(self.device, scratch)

    def describe(self) -> str:
        return str(self.folder)

    def check(self, submodule: str, profile: Profile) -> None:
        self._record(submodule, profile)

    def _record(self, submodule: str, profile: Profile) -> EngineRecord:
        record = self.manifest.find(submodule, profile)
        if record is None:
            raise EngineError(
                f"{self.folder} has no {submodule} engine for {profile}, only for {', '.join(self.manifest.profiles)}; "
                f"add it: {self.manifest.rebuild_command(self.folder, profile)}"
            )
        return record

    def _open(self, submodule: str, profile: Profile) -> Engine:
        record = self._record(submodule, profile)
        inputs, outputs = submodule_io(submodule, self.config, profile, self.dtype)
        if not record.takes(inputs, outputs):
            raise EngineError(
                f"{self.folder / record.file} has other inputs or outputs than this hero-runtime's {submodule}; "
                f"rebuild: {self.manifest.rebuild_command(self.folder)}"
            )
        weights = [self.folder / name for name in record.weights]
        return self._backend.open_engine(self.folder / record.file, inputs, outputs, self._workspace, weights)

    def _close(self) -> None:
        self._workspace.close()
