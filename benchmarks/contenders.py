"""Opens contenders, which are sets of engines by name. The two baselines come first."""

import os
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.settings import Settings
from hero_export.build import build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_rt.engines.backend import BACKENDS, backend
from hero_rt.engines.eager import EagerEngines, ModuleEngine
from hero_rt.engines.engine import Engine, EngineSet
from hero_rt.engines.folder import EngineFolder
from hero_rt.engines.manifest import DTYPES
from hero_rt.errors import EngineError, UsageError
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import SUBMODULES, Specs, submodule_io
from hero_rt.spec.config import NUM_ATTENTIONS
from hero_rt.spec.profile import Profile

AUTOTUNED = "-max-autotune"
BASELINE = "eager-cached"  # this project's model, constants cached
UNCACHED = "eager-uncached"  # recomputes RefNet and flow encoder in every step
COMPILED = {"compile": "default", "compile-max-autotune": "max-autotune"}
KNOWN = (BASELINE, UNCACHED, *COMPILED, *BACKENDS, f"aoti{AUTOTUNED}")
_CORES_A_BUILD = 2
STEP = ("sample", "timestep", "condition")


def check_available(settings: Settings, format: str) -> None:
    """Raise EngineError if engines of this format cannot run on the device of the run."""
    wanted, chosen = torch.device(settings.device), backend(format)
    here = chosen.this_machine(wanted)
    if wanted.type == "cuda" and chosen.default_device().type != "cuda":
        raise EngineError(f"{format} as it is installed here runs on the CPU only")
    if difference := chosen.mismatch(here, here):
        raise EngineError(f"{format}: {difference}")


class BuiltEngines(EngineSet):
    """Builds and opens engines of one format. `name` is the format; AOTInductor also has `aoti-max-autotune`.

    Each canvas has a folder, built by the exporter. The build is not timed.
    """

    def __init__(self, settings: Settings, name: str):
        self.format = name.removesuffix(AUTOTUNED)
        check_available(settings, self.format)
        self._run = settings
        options = {"device": settings.device, "max_autotune": name.endswith(AUTOTUNED)} if self.format == "aoti" else {}
        self._build = BuildSettings.of(Checkpoint("random", settings.preset), self.format, settings.dtype, **options)
        super().__init__(settings.config, DTYPES[settings.dtype], torch.device(settings.device))
        self._root = settings.cache / f"{settings.preset}-{settings.dtype}-{name}-{self.device.type}"
        self._folders: dict[Profile, EngineFolder] = {}

    def folder(self, profile: Profile) -> EngineFolder:
        """Return the folder of a profile's canvas, built with all profiles that the run needs there.

        Raises HeroError if an engine cannot be built or opened here.
        """
        if profile not in self._folders:
            path = self._root / f"{profile.width}x{profile.height}x{profile.frames}"
            asked = self._run.profiles()
            same = [profile, *(p for p in asked if (p.width, p.height) == (profile.width, profile.height))]
            jobs = max(1, min(len(SUBMODULES), (os.cpu_count() or 1) // _CORES_A_BUILD))
            build_engines(self._build, path, list(dict.fromkeys(same)), jobs=jobs)
            self._folders |= dict.fromkeys(same, EngineFolder(path, self._run.device))
        return self._folders[profile]

    def _open(self, submodule: str, profile: Profile) -> Engine:
        return self.folder(profile).open(submodule, profile)

    def _close(self) -> None:
        for folder in self._folders.values():
            folder.close()
        self._folders.clear()


class CompiledEngines(EagerEngines):
    """Compiles each submodule at its static shapes on its first run. `mode` is that of torch.compile."""

    def __init__(self, model: HeroModel, mode: str):
        super().__init__(model)
        self._mode = mode

    def _open(self, submodule: str, profile: Profile) -> Any:
        inputs, outputs = submodule_io(submodule, self.config, profile, self.dtype)
        module = self._compile(build_submodule(self.model, submodule, profile))
        return ModuleEngine(f"compile-{self._mode} {submodule} {profile}", module, inputs, outputs, self.device)

    def _compile(self, module: nn.Module):
        compiled = torch.compile(module, mode=self._mode, fullgraph=True, dynamic=False)
        if self._mode == "default" or self.device.type != "cuda":
            return compiled

        def own_outputs(*inputs: Tensor):
            """Copy the outputs, because the next replay of a CUDA graph overwrites its buffers."""
            torch.compiler.cudagraph_mark_step_begin()
            return torch.utils._pytree.tree_map(torch.clone, compiled(*inputs))

        return own_outputs


def without(specs: Specs, *prefixes: str) -> Specs:
    return {name: spec for name, spec in specs.items() if not name.startswith(prefixes)}


class UncachedEngines(EagerEngines):
    """Runs the RefNet and the flow encoder in every step. Only the CLIP streams are cached.

    The step's inputs are the CLIP tokens and flow_mask in place of `ref_*` and `flow_residual.*`.
    """

    def _open(self, submodule: str, profile: Profile) -> Any:
        if submodule not in ("refnet", "unet_step"):
            return super()._open(submodule, profile)
        reads, outputs = submodule_io(submodule, self.config, profile, self.dtype)
        name = f"eager-uncached {submodule} {profile}"
        if submodule == "refnet":
            return ModuleEngine(name, lambda *_: (), reads, {}, self.device)
        parts = (submodule, "refnet", "flow_encoder")
        step, refnet, flow = (build_submodule(self.model, part, profile) for part in parts)
        flow_reads, _ = submodule_io("flow_encoder", self.config, profile, self.dtype)  # flow_mask and both embeds

        def forward(sample: Tensor, timestep: Tensor, condition: Tensor, *constants: Tensor) -> Tensor:
            *semantic, flow_mask, clip_embeds, openclip_embeds = constants
            embeds = clip_embeds, openclip_embeds
            reference = refnet(condition[:, 1:], *embeds)  # the condition holds the mask, then f_l
            return step(sample, timestep, condition, *reference, *semantic, *flow(flow_mask, *embeds))

        semantic = without(reads, *STEP, "ref_", "flow_residual")
        own = {name: reads[name] for name in STEP} | semantic | flow_reads
        return ModuleEngine(name, forward, own, outputs, self.device)


class RawFeatureEngines(EagerEngines):
    """Caches the RefNet's features, not their projections. Each step projects them to keys and values.

    `ref_feature.{i}` [N, S, C] takes the place of ref_k and ref_v.
    """

    def _open(self, submodule: str, profile: Profile) -> Any:
        if submodule not in ("refnet", "unet_step"):
            return super()._open(submodule, profile)
        reads, outputs = submodule_io(submodule, self.config, profile, self.dtype)
        keys = {name: spec for name, spec in (reads | outputs).items() if name.startswith("ref_k")}
        features = {name.replace("ref_k", "ref_feature"): spec for name, spec in keys.items()}
        step = build_submodule(self.model, "unet_step", profile)

        def refnet(latents: Tensor, *embeds: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.model["refnet"](latents, *embeds, torch.zeros(1, device=self.device), profile.frames))

        def project(sample: Tensor, timestep: Tensor, condition: Tensor, *constants: Tensor) -> Tensor:
            projected = self.model["unet"].project_reference(constants[:NUM_ATTENTIONS])
            reference = (*(k for k, _ in projected), *(v for _, v in projected))
            return step(sample, timestep, condition, *reference, *constants[NUM_ATTENTIONS:])

        name = f"eager-raw-features {submodule} {profile}"
        if submodule == "refnet":
            return ModuleEngine(name, refnet, reads, features, self.device)
        own = {name: reads[name] for name in STEP} | features | without(reads, *STEP, "ref_")
        return ModuleEngine(name, project, own, outputs, self.device)


def contender_names(settings: Settings, compiled: bool) -> list[str]:
    """Return both baselines, then the requested contenders or every format. `compiled` adds torch.compile."""
    if unknown := [name for name in settings.only if name not in KNOWN]:
        raise UsageError(f"unknown contender {unknown[0]!r}; known: {', '.join(KNOWN)}")
    return list(dict.fromkeys([BASELINE, UNCACHED, *(settings.only or [*(COMPILED if compiled else ()), *BACKENDS])]))


def open_contender(settings: Settings, name: str, model: HeroModel) -> EngineSet:
    """Open a contender. Eager ones run `model`. Raises EngineError if a format does not run here."""
    if name in (BASELINE, UNCACHED):
        return EagerEngines(model) if name == BASELINE else UncachedEngines(model)
    if name in COMPILED:
        return CompiledEngines(model, COMPILED[name])
    return BuiltEngines(settings, name)
