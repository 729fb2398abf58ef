"""The training loop of the small parts: AdamW, cosine decay, a moving average, and states to go on from."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from hero_rt.errors import UsageError
from hero_train.recipe import SmallRecipe
from hero_train.state import newest_state, read_about, write_state

Learner = tuple[nn.Module, torch.optim.Optimizer]


def minimise(
    module: nn.Module,
    loss: Callable[[int], tuple[Tensor, dict[str, float]]],
    recipe: SmallRecipe,
    desc: str,
    state: Path | None = None,
    others: Mapping[str, Learner] | None = None,
) -> None:
    """Train `module` in place; end with the moving average of its weights over the last few hundred steps.

    Args:
        module: What is trained; every parameter of it takes a gradient.
        loss: The loss of a step and its terms.
        recipe: Steps, rate and seed.
        desc: What the progress bar says.
        state: Folder of the states to go on from. Without it nothing is saved.
        others: Modules that `loss` trains itself, with their optimisers; their states are saved too.
    """
    optimizer = torch.optim.AdamW(module.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    average = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    learners: dict[str, Learner] = {"trained": (module, optimizer)} | dict(others or {})
    start = _load(state, recipe, learners, average) if state is not None else 0
    with tqdm(total=recipe.steps, initial=start, desc=desc, mininterval=5) as bar:
        for step in range(start, recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(step)
            value, terms = loss(step)
            if not value.isfinite():
                raise UsageError(f"the loss of the {desc} is {value.item()} at step {step}; lower --learning-rate")
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    average[name].lerp_(parameter, max(0.005, 1 / (step + 1)))
            bar.update()
            bar.set_postfix({name: f"{term:.4g}" for name, term in terms.items()}, refresh=False)
            if state is not None and (step + 1) % recipe.save_every == 0:
                _save(state, step + 1, recipe, learners, average)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(average[name])


def _save(
    folder: Path, step: int, recipe: SmallRecipe, learners: Mapping[str, Learner], average: dict[str, Tensor]
) -> None:
    tensors = {f"average/{name}": tensor for name, tensor in average.items()}
    for key, (module, optimizer) in learners.items():
        tensors |= {f"{key}/module/{name}": tensor for name, tensor in module.state_dict().items()}
        for name, parameter in module.named_parameters():
            for slot, value in optimizer.state[parameter].items():
                tensors[f"{key}/{slot}/{name}"] = value
    write_state(folder, step, {name: tensor.detach() for name, tensor in tensors.items()}, recipe)


def _constant_so_far(state: Path, recipe: SmallRecipe) -> bool:
    """Whether the rate fell in none of the steps already taken, by the state's recipe and by `recipe`."""
    saved = json.loads((state / "state.json").read_text())
    before = recipe.model_copy(update={"steps": saved["recipe"].get("steps", 1)})
    return saved["step"] <= min(before.first_falling, recipe.first_falling)


def _load(folder: Path, recipe: SmallRecipe, learners: Mapping[str, Learner], average: dict[str, Tensor]) -> int:
    """Restore the newest state in place; returns its step, 0 where there is none. Raises UsageError."""
    newest = newest_state(folder)
    if newest is None:
        return 0
    step = read_about(newest, recipe, {"save_every"} | ({"steps"} if _constant_so_far(newest, recipe) else set()))
    tensors = load_file(newest / "state.safetensors")
    with torch.no_grad():
        for name, tensor in average.items():
            tensor.copy_(tensors[f"average/{name}"])
        for key, (module, optimizer) in learners.items():
            prefix = f"{key}/module/"
            module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
            for name, parameter in module.named_parameters():
                slots = {slot: tensors.get(f"{key}/{slot}/{name}") for slot in ("step", "exp_avg", "exp_avg_sq")}
                optimizer.state[parameter] = {
                    slot: value.to("cpu" if slot == "step" else parameter.device)
                    for slot, value in slots.items()
                    if value is not None
                }
    return step
