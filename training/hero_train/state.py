"""Everything that a run needs to go on exactly where it was: safetensors and JSON, written whole or not at all."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path

import torch
from pydantic import BaseModel, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hero_rt.errors import UsageError
from hero_train.recipe import Recipe

CHANGEABLE = {"steps", "decay_steps", "save_every", "workers"}  # that alter no step already taken


def save_state(
    folder: Path, step: int, recipe: Recipe, model: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.AdamW
) -> None:
    """Write folder/step-<step>, then remove the older ones."""
    tensors = {f"model/{name}": parameter.detach() for name, parameter in model.named_parameters()}
    tensors |= {f"average/{name}": tensor for name, tensor in average.items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{key}/{name}"] = value
    write_state(folder, step, tensors, recipe)


def load_state(
    folder: Path, recipe: Recipe, model: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.AdamW
) -> int:
    """Restore the newest state under `folder` in place; returns its step, 0 where there is none.

    Raises UsageError where the recipe changed in a way that would make another run of it.
    """
    newest = newest_state(folder)
    if newest is None:
        return 0
    step = read_about(newest, recipe, CHANGEABLE)
    tensors = load_file(newest / "state.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model/{name}"])
            average[name].copy_(tensors[f"average/{name}"])
            keys = ("step", "exp_avg", "exp_avg_sq")
            optimizer.state[parameter] = {
                key: tensors[f"optimizer/{key}/{name}"].to("cpu" if key == "step" else parameter.device)
                for key in keys
                if f"optimizer/{key}/{name}" in tensors
            }
    return step


def write_state(folder: Path, step: int, tensors: dict[str, Tensor], recipe: BaseModel) -> None:
    """Write folder/step-<step> with the tensors, the step and the recipe, then remove the older ones."""
    final = folder / f"step-{step:07d}"
    part = final.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part / "state.safetensors")
    (part / "state.json").write_text(json.dumps({"step": step, "recipe": recipe.model_dump(mode="json")}, indent=2))
    part.rename(final)
    for old in folder.glob("step-*"):
        if old != final:
            shutil.rmtree(old)


def newest_state(folder: Path) -> Path | None:
    """The last whole state under `folder`, or None."""
    states = [path for path in sorted(folder.glob("step-*")) if path.suffix != ".part"]
    return states[-1] if states else None


def read_about(path: Path, recipe: BaseModel, changeable: Collection[str]) -> int:
    """The step of a state. Raises UsageError where its recipe differs from `recipe` in more than `changeable`."""
    saved = json.loads((path / "state.json").read_text())
    try:
        before = type(recipe).model_validate(saved["recipe"]).model_dump(mode="json")
    except ValidationError as error:
        raise UsageError(f"{path}/state.json is of another version of hero-train; start in an empty folder") from error
    now = recipe.model_dump(mode="json")
    changed = [f"{key} was {before[key]}, is {now[key]}" for key in now if before[key] != now[key]]
    changed = [line for line in changed if line.split()[0] not in changeable]
    if changed:
        raise UsageError(f"{path} was trained otherwise ({'; '.join(changed)}); resume as it was, or use another --out")
    return saved["step"]
