"""Traces one submodule to an exported program, from which every compiled format is made."""

import torch

from hero_rt.errors import UsageError
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import FREE, submodule_boundary, submodule_io
from hero_rt.spec.profile import AnyProfile


def trace(model: HeroModel, submodule: str, profile: AnyProfile) -> torch.export.ExportedProgram:
    """Export a submodule with torch.export, on the model's device and in its dtype. A range of canvases has free axes.

    Raises UsageError for a model that has no static graph (a flow encoder synced with the timestep).
    """
    if model.config.ofe_timestep == "synced":
        raise UsageError(
            "a flow encoder synced with the timestep runs every step and is eager only; it cannot be exported"
        )
    typical = profile.shapes[len(profile.shapes) // 2]
    inputs, _ = submodule_io(submodule, model.config, typical, model.dtype)
    example = tuple(torch.zeros(spec.shape, dtype=spec.dtype, device=model.device) for spec in inputs.values())
    module = build_submodule(model, submodule, typical)
    boundary, _ = submodule_boundary(submodule, model.config, profile, model.dtype)
    free = torch.export.ShapesCollection()
    for tensor, spec in zip(example, boundary.values(), strict=True):
        # AUTO: the trace finds out which axes are equal
        free[tensor] = {axis: torch.export.Dim.AUTO for axis, size in enumerate(spec.shape) if size == FREE}
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=free.dynamic_shapes(module, example))
