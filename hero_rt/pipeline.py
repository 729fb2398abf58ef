"""The methods of diffusers' pipelines that an outpainter has too."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from hero_rt.engines.engine import EngineSet
from hero_rt.errors import UsageError
from hero_rt.sampling import make_scheduler
from hero_rt.session import OnStep, StepDone
from hero_rt.spec.config import HeroConfig

if TYPE_CHECKING:
    from hero_rt.engines.eager import EagerEngines

StepEnd = Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor] | None]


class PipelineMethods:
    """Scheduler, parts and memory of an outpainter. Subclasses set `engines`.

    Methods that change the PyTorch model raise UsageError on an engine folder, whose engines are built for one device,
    dtype and set of weights.
    """

    engines: EngineSet

    def __init__(self) -> None:
        self._scheduler: Any = None
        self._progress_bar: dict[str, Any] = {}

    @property
    def config(self) -> HeroConfig:
        return self.engines.config

    @property
    def device(self) -> torch.device:
        return self.engines.device

    @property
    def dtype(self) -> torch.dtype:
        return self.engines.dtype

    @property
    def scheduler(self) -> Any:
        """The diffusers scheduler that samples. Another one may be assigned, also for an engine folder.

        >>> outpainter.scheduler = UniPCMultistepScheduler.from_config(outpainter.scheduler.config)
        """
        if self._scheduler is None:
            self._scheduler = make_scheduler(self.config.scheduler)
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        if not all(hasattr(scheduler, name) for name in ("config", "set_timesteps", "step")):
            raise UsageError(f"scheduler is a {type(scheduler).__name__}; give a diffusers scheduler")
        self._scheduler = scheduler

    @property
    def components(self) -> dict[str, Any]:
        """The checkpoint's parts and the scheduler, by name."""
        from hero_rt.models.hero import PARTS

        model = self._eager("components").model
        return {part: model[part] for part in PARTS} | {"scheduler": self.scheduler}

    def to(self, *targets: torch.device | str | int | torch.dtype) -> Self:
        """Move the model to a device, a dtype or both. Return self."""
        engines = self._eager("to()")
        dtypes = [target for target in targets if isinstance(target, torch.dtype)]
        devices = [torch.device(target) for target in targets if not isinstance(target, torch.dtype)]
        if len(dtypes) > 1 or len(devices) > 1 or not targets:
            raise UsageError(f"to{targets}: give one device, one dtype, or one of each")
        engines.move(devices[0] if devices else None, dtypes[0] if dtypes else None)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the checkpoint, with the present scheduler, as a diffusers-style folder."""
        self._eager("save_pretrained()").model.save_pretrained(folder, self.scheduler)

    def enable_model_cpu_offload(self, device: torch.device | str | None = None) -> None:
        """Keep weights in the memory of the CPU. A submodule is on the GPU only while it runs; all steps are one run.

        Args:
            device: the GPU; default: the first.

        Raises:
            UsageError: there is no GPU.
        """
        engines = self._eager("enable_model_cpu_offload()")
        if device is None and not torch.cuda.is_available():
            raise UsageError("enable_model_cpu_offload() needs a GPU, and PyTorch sees none; leave it out on a CPU")
        engines.offload(torch.device(device or "cuda"))

    def enable_vae_slicing(self) -> None:
        """Encode and decode one frame at a time. This needs less memory and more time."""
        self._eager("enable_vae_slicing()").model["vae"].enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Encode and decode all frames of a window at once again."""
        self._eager("disable_vae_slicing()").model["vae"].disable_slicing()

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Set keyword arguments of tqdm, as in diffusers. `disable=True` hides the bar."""
        self._progress_bar = kwargs

    def _on_step(self, callback: StepEnd | None) -> OnStep:
        if callback is None:
            return lambda step: None

        def on_step(step: StepDone) -> Tensor | None:
            returned: Any = callback(self, step.step, step.timestep, {"latents": step.latents})
            returned = {} if returned is None else returned
            if not isinstance(returned, dict) or returned.keys() - {"latents"}:
                seen = f"a dict with {[*returned]}" if isinstance(returned, dict) else f"a {type(returned).__name__}"
                raise UsageError(f"callback_on_step_end returned {seen}; return None, or a dict with 'latents' alone")
            return returned.get("latents")

        return on_step

    def _eager(self, what: str) -> "EagerEngines":
        from hero_rt.engines.eager import EagerEngines

        if not isinstance(self.engines, EagerEngines):
            raise UsageError(
                f"{what} needs the PyTorch model, and this outpainter runs {self.engines.describe()}, built for one "
                "device, dtype and set of weights; use Outpainter.from_pretrained"
            )
        return self.engines
