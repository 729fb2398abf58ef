"""One submodule as an exported program: where every compiled format starts."""

import torch

from hero_rt.errors import UsageError
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule, submodule_io
from hero_rt.profile import Profile


def trace(model: HeroModel, submodule: str, profile: Profile) -> torch.export.ExportedProgram:
    """torch.export of a submodule at the static shapes of `profile`, on the model's device and in its dtype.

    Raises UsageError for a model that has no static graph (a flow encoder synced with the timestep).
    """
    if model.config.ofe_timestep == "synced":
        raise UsageError(
            "a flow encoder synced with the timestep runs every step and is eager only; it cannot be exported"
        )
    inputs, _ = submodule_io(submodule, model.config, profile, model.dtype)
    example = tuple(torch.zeros(spec.shape, dtype=spec.dtype, device=model.device) for spec in inputs.values())
    with torch.no_grad():
        return torch.export.export(build_submodule(model, submodule, profile), example)
