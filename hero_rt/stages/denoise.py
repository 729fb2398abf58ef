"""The denoising loop. It does not know what runs the UNet."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hero_rt.noise import StepNoise

Predict = Callable[[Tensor, Tensor], Tensor]
OnStep = Callable[[int, Tensor, Tensor], Tensor]


def denoise(
    predict: Predict,
    sample: Tensor,
    scheduler: Any,
    step_arguments: Mapping[str, Any],
    step_noise: StepNoise,
    on_step: OnStep,
) -> Tensor:
    """Turn noise into clean latents, [N, 4, h, w] FP32. Nothing is read back from the device.

    Args:
        predict: (sample, timestep [1]) to the guided noise prediction, same shape as the sample.
        scheduler: a diffusers scheduler whose timesteps are set; `step_arguments` are further ones of its `step`.
        step_noise: what a stochastic sampler draws.
        on_step: (step, timestep, sample) to the sample that the next step starts from.
    """
    timesteps = scheduler.timesteps.to(sample.device, torch.float32)
    sample = sample * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        noise = predict(scheduler.scale_model_input(sample, t), timesteps[i : i + 1])
        step_noise.step = i
        with step_noise:
            sample = scheduler.step(noise, t, sample, **step_arguments).prev_sample
        sample = on_step(i, t, sample)
    return sample
