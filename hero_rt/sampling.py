"""Makes diffusers' schedulers by name, and applies classifier-free guidance."""

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
    """Make a diffusers scheduler from a checkpoint's scheduler config.

    sampler: a short name of `SAMPLERS` or a diffusers class name; None uses the checkpoint's.
    """
    cls = _scheduler_class(sampler or config["_class_name"])
    return cls.from_config({key: value for key, value in config.items() if key != "_class_name"})


def copy_scheduler(scheduler: Any, sampler: str | None = None) -> Any:
    """Make a scheduler with the config of `scheduler`. Its class is that of `scheduler`, or the one of `sampler`."""
    cls = type(scheduler) if sampler is None else _scheduler_class(sampler)
    return cls.from_config(scheduler.config)


def _scheduler_class(wanted: str) -> Any:
    name = SAMPLERS.get(wanted.lower(), wanted)
    cls = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if cls is None:
        raise UsageError(f"unknown sampler {wanted!r}; known: {', '.join(SAMPLERS)}, or a diffusers scheduler class")
    return cls


def set_steps(scheduler: Any, num_inference_steps: int) -> None:
    """Choose `scheduler.timesteps`. They stay on the host, where schedulers look up tables by them. A timestep on a GPU
    would make the host wait for the device several times in a step. Raises UsageError.
    """
    most = scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= most:
        raise UsageError(f"num_inference_steps is {num_inference_steps}, it must be at least 1 and at most {most}")
    scheduler.set_timesteps(num_inference_steps)


MAX_ETA = 1 - 1e-6  # at 1, DDIM's first step takes sqrt(0), which FP32 rounding can turn into sqrt of a negative number


def step_arguments(scheduler: Any, eta: float) -> dict[str, Any]:
    """Return the keyword arguments that this scheduler's `step` takes and others do not. eta: 0 to 1."""
    return {"eta": min(eta, MAX_ETA)} if "eta" in inspect.signature(scheduler.step).parameters else {}


def guide(noise: Tensor, guidance_scale: float, guided: bool) -> Tensor:
    """Apply classifier-free guidance (Ho & Salimans) to noise [2·F, ...], rows uncond and cond. Returns [F, ...].

    Without guidance, noise [F, ...] is returned as it is.
    """
    if not guided:
        return noise
    uncond, cond = noise.chunk(2)
    return uncond + guidance_scale * (cond - uncond)
