"""Samplers: diffusers' schedulers by name, and classifier-free guidance."""

import inspect
from typing import Any

import diffusers
from torch import Tensor

from hero_rt.errors import UsageError

SAMPLERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "pndm": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "lcm": "LCMScheduler",
}


def make_scheduler(config: dict[str, Any], sampler: str | None = None) -> Any:
    """A diffusers scheduler from a checkpoint's scheduler config.

    sampler: a short name of `SAMPLERS` or a diffusers class name; None is the one the checkpoint names.
    """
    cls = _scheduler_class(sampler or config["_class_name"])
    return cls.from_config({key: value for key, value in config.items() if key != "_class_name"})


def copy_scheduler(scheduler: Any, sampler: str | None = None) -> Any:
    """A new scheduler with the config of `scheduler`, of its class or of the one that `sampler` names."""
    cls = type(scheduler) if sampler is None else _scheduler_class(sampler)
    return cls.from_config(scheduler.config)


def _scheduler_class(wanted: str) -> Any:
    name = SAMPLERS.get(wanted.lower(), wanted)
    cls = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if cls is None:
        raise UsageError(f"unknown sampler {wanted!r}; known: {', '.join(SAMPLERS)}, or a diffusers scheduler class")
    return cls


def set_steps(scheduler: Any, num_inference_steps: int) -> None:
    """Choose `scheduler.timesteps`. They stay on the host: schedulers look their tables up by them, and a timestep on
    a GPU would make the host wait for the device several times a step. Raises UsageError.
    """
    most = scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= most:
        raise UsageError(f"num_inference_steps is {num_inference_steps}, it must be at least 1 and at most {most}")
    scheduler.set_timesteps(num_inference_steps)


MAX_ETA = 1 - 1e-6  # at 1, DDIM's first step from pure noise takes the root of 0, or of what FP32 rounds below it


def step_arguments(scheduler: Any, eta: float) -> dict[str, Any]:
    """The keyword arguments of this scheduler's `step` beyond the three that all take. eta: 0 to 1."""
    return {"eta": min(eta, MAX_ETA)} if "eta" in inspect.signature(scheduler.step).parameters else {}


def guide(noise: Tensor, guidance_scale: float, guided: bool) -> Tensor:
    """Classifier-free guidance (Ho & Salimans): noise [2·F, ...], rows uncond, cond, to [F, ...]; [F, ...] unguided."""
    if not guided:
        return noise
    uncond, cond = noise.chunk(2)
    return uncond + guidance_scale * (cond - uncond)
