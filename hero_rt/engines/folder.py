"""An engine folder on disk as an engine set: checked against its manifest before anything of it is read."""

from pathlib import Path

import torch

from hero_rt.engines.backend import backend
from hero_rt.engines.engine import Engine
from hero_rt.engines.manifest import DTYPES, check_files, read_manifest
from hero_rt.engines.workspace import Workspace
from hero_rt.errors import EngineError
from hero_rt.models.boundary import submodule_io
from hero_rt.profile import Profile


class EngineFolder:
    """Every file is hashed on opening: a folder opens whole or not at all. Engines are made when first asked for."""

    def __init__(self, folder: Path, device: str | None = None):
        self.folder, self.manifest = folder, read_manifest(folder)
        self.config, self.dtype = self.manifest.config, DTYPES[self.manifest.dtype]
        self._backend = backend(self.manifest.format)
        self.device = torch.device(device) if device else self._backend.default_device()
        here = self._backend.this_machine(self.device)
        if difference := self._backend.mismatch(self.manifest.target, here):
            raise EngineError(f"{folder} was {difference}; rebuild: {self.manifest.rebuild_command(folder)}")
        check_files(folder, self.manifest)
        # a plan's scratch is what its builder counted, so the first engine's fits the largest
        scratch = max(engine.contents.get("activation_bytes", 0) for engine in self.manifest.engines)
        self._workspace = Workspace(self.device, scratch)
        self._engines: dict[tuple[str, Profile], Engine] = {}

    def open(self, submodule: str, profile: Profile) -> Engine:
        record = self.manifest.find(submodule, profile)
        if record is None:
            raise EngineError(
                f"{self.folder} has no {submodule} engine for {profile}, only for {', '.join(self.manifest.profiles)}; "
                f"add it: {self.manifest.rebuild_command(self.folder, profile)}"
            )
        key = record.file, profile.of(submodule)  # one engine of a range serves many shapes
        if key not in self._engines:
            inputs, outputs = submodule_io(submodule, self.config, profile, self.dtype)
            if not record.takes(inputs, outputs):
                raise EngineError(
                    f"{self.folder / record.file} has other inputs or outputs than this hero-runtime's {submodule}; "
                    f"rebuild: {self.manifest.rebuild_command(self.folder)}"
                )
            self._engines[key] = self._backend.open_engine(
                self.folder / record.file,
                inputs,
                outputs,
                self._workspace,
                [self.folder / name for name in record.weights],
            )
        return self._engines[key]

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._workspace.close()
