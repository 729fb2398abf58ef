"""Runs training steps with a moving average of the weights. A resumed run continues bit by bit."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from hero_rt.errors import UsageError
from hero_train.recipe import Recipe, SmallRecipe

Learner = tuple[nn.Module, torch.optim.Optimizer]
Terms = tuple[Tensor, dict[str, float]]  # a loss and its terms
Loss = Callable[[int], Terms]  # takes the step
SLOTS = ("step", "exp_avg", "exp_avg_sq")  # the state of AdamW


class Run:
    """The remaining steps of one recipe, and the state that they change."""

    def __init__(self, recipe: Recipe | SmallRecipe, folder: Path | None, trained: Learner, **others: Learner):
        """Resume from the newest state in `folder`, if any. Without a folder nothing is saved.

        others: further trained modules, whose states are saved too. Raises UsageError if the recipe differs in a field
        that must not change.
        """
        self.recipe, self.folder = recipe, folder
        self.module, self.optimizer = trained
        self.learners = {"": trained} | {f"{name}/": learner for name, learner in others.items()}
        self.average = {name: parameter.detach().clone() for name, parameter in self.module.named_parameters()}
        self.start = self._load()

    def steps(self, desc: str = "", save_more: Callable[[], None] | None = None, main: bool = True) -> Iterator[int]:
        """Set the learning rate and yield each step. Then update the average, and save the state if it is due.

        save_more: called after each state is written. Only the `main` process shows progress and saves.
        """
        first, last = self.start, self.recipe.steps
        self.bar = tqdm(range(first, last), desc, initial=first, total=last, mininterval=1, disable=not main)
        for step in self.bar:
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate_at(step)
            yield step
            with torch.no_grad():
                for name, parameter in self.module.named_parameters():
                    self.average[name].lerp_(parameter, self.recipe.average_weight_at(step))
            if main and self.folder and ((step + 1) % self.recipe.save_every == 0 or step + 1 == last):
                self._save(self.folder, step + 1)
                if save_more:
                    save_more()

    def swap(self) -> None:
        """Exchange the weights with their moving average."""
        for name, parameter in self.module.named_parameters():
            parameter.data, self.average[name] = self.average[name], parameter.data

    def _save(self, folder: Path, step: int) -> None:
        """Write folder/step-<step> atomically, then remove older states."""
        tensors = {f"average/{name}": tensor for name, tensor in self.average.items()}
        for key, (module, optimizer) in self.learners.items():
            tensors |= {f"{key}model/{name}": tensor for name, tensor in module.state_dict().items()}
            for name, parameter in module.named_parameters():
                slots = optimizer.state[parameter].items()
                tensors |= {f"{key}optimizer/{slot}/{name}": value for slot, value in slots}
        final = folder / f"step-{step:07d}"
        part = final.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part / "state.safetensors")
        about = {"step": step, "recipe": self.recipe.model_dump(mode="json")}
        (part / "state.json").write_text(json.dumps(about, indent=2))
        part.rename(final)
        for old in set(folder.glob("step-*")) - {final}:
            shutil.rmtree(old)

    @torch.no_grad()
    def _load(self) -> int:
        """Restore the newest state in place. Return its step, or 0 if there is none."""
        states = sorted(self.folder.glob("step-" + "[0-9]" * 7)) if self.folder else []
        if not states:
            return 0
        newest = states[-1]
        saved, tensors = json.loads((newest / "state.json").read_text()), load_file(newest / "state.safetensors")
        try:
            if changes := self.recipe.changes_since(saved["recipe"], saved["step"]):
                raise UsageError(f"{newest} was trained otherwise ({changes}); repeat its settings, or change --out")
            for name, tensor in self.average.items():
                tensor.copy_(tensors[f"average/{name}"])
            for key, (module, optimizer) in self.learners.items():
                module.load_state_dict({name: tensors[f"{key}model/{name}"] for name in module.state_dict()})
                for name, parameter in module.named_parameters():
                    optimizer.state[parameter] = {
                        slot: tensors[place].to("cpu" if slot == "step" else parameter.device)
                        for slot in SLOTS
                        if (place := f"{key}optimizer/{slot}/{name}") in tensors
                    }
        except (ValidationError, KeyError) as error:
            raise UsageError(f"{newest} is of another version of hero-train; start in an empty folder") from error
        return saved["step"]


def check_finite(loss: Tensor, step: int) -> None:
    """Raise UsageError if the loss is not finite."""
    if not loss.isfinite():
        raise UsageError(f"the loss is {loss.item()} at step {step}; resume with a lower --learning-rate")


def minimise(
    module: nn.Module, loss: Loss, recipe: SmallRecipe, desc: str, state: Path | None, **others: Learner
) -> None:
    """Train `module` in place. At the end its weights are their moving average over the last few hundred steps.

    Args:
        module: The module to train. It is frozen afterwards.
        loss: Returns the loss of a step and its terms.
        recipe: Steps, learning rate and seed.
        desc: Label of the progress bar.
        state: Folder of states to resume from. Without it nothing is saved.
        others: Modules that `loss` trains itself, with their optimisers. Their states are saved too.
    """
    module.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    run = Run(recipe, state, (module, optimizer), **others)
    for step in run.steps(desc):
        value, terms = loss(step)
        check_finite(value, step)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        run.bar.set_postfix({name: f"{term:.4g}" for name, term in terms.items()}, refresh=False)
    run.swap()
    module.eval().requires_grad_(False)
