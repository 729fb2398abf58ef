"""Traces one submodule to an exported program, from which every compiled format is made."""

from dataclasses import replace

import torch

from hero_rt.errors import UsageError
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import FREE, submodule_boundary, submodule_io
from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import AnyProfile


def axis_names(submodule: str, config: HeroConfig, profile: AnyProfile) -> dict[str, dict[int, str]]:
    """Name the axes of each input that vary.

    height_8 is an eighth of the canvas's height, and tokens_16 the cells at a sixteenth of both sides, rounded up at
    each level. Axes of one name have one size at every canvas.
    """
    canvas = replace(profile.shapes[0], height=5 << 9, width=3 << 9)  # its sizes differ, so each has one meaning
    names = {canvas.height: "height", canvas.width: "width"}
    for level, (h, w) in enumerate(config.level_sizes(canvas.height, canvas.width)):
        names |= {h: f"height_{8 << level}", w: f"width_{8 << level}", h * w: f"tokens_{8 << level}"}
    at = submodule_io(submodule, config, canvas, torch.float32)[0]
    return {
        name: {axis: names[at[name].shape[axis]] for axis, size in enumerate(spec.shape) if size == FREE}
        for name, spec in submodule_boundary(submodule, config, profile, torch.float32)[0].items()
    }


def input_ranges(submodule: str, config: HeroConfig, profile: AnyProfile) -> dict[str, list[tuple[int, ...]]]:
    """Return the smallest, typical and largest shape of each input that varies."""
    at = [submodule_io(submodule, config, shape, torch.float32)[0] for shape in profile.shapes]
    varying = (name for name, axes in axis_names(submodule, config, profile).items() if axes)
    return {name: [inputs[name].shape for inputs in at] for name in varying}


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
    names = axis_names(submodule, model.config, profile)
    free = torch.export.ShapesCollection()
    for tensor, axes in zip(example, names.values(), strict=True):
        free[tensor] = dict.fromkeys(axes, torch.export.Dim.AUTO)  # the trace finds out which axes are equal
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=free.dynamic_shapes(module, example))
