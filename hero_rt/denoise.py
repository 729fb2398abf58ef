"""The loop that everything else exists for. It does not know what runs the UNet."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hero_rt.engines.engine import Engine
from hero_rt.noise import StepNoise
from hero_rt.sampling import guide
from hero_rt.windows import Window, fuse, fusion_weights

Constants = Mapping[str, Tensor]
StepCallback = Callable[[int, Tensor, Tensor], Tensor]


class JointWindows:
    """The noise prediction of a whole clip: each window's, cross-faded linearly where windows overlap."""

    def __init__(self, unet: Engine, constants: Sequence[Constants], windows: Sequence[Window], guidance_scale: float):
        self.unet, self.constants, self.windows = unet, constants, windows
        self.guidance_scale = guidance_scale
        self.guided = unet.outputs["noise_pred"].shape[0] != unet.inputs["sample"].shape[0]
        device = next(iter(constants[0].values())).device
        self.weights = [weight.to(device) for weight in fusion_weights(windows)]
        if len(windows) == 1:
            unet.bind(constants[0])  # constants go in once, not once a step

    def __call__(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """sample: [N, 4, h, w] FP32, N frames of the clip. Returns the guided noise, same shape."""
        predictions = []
        for window, constants in zip(self.windows, self.constants, strict=True):
            if len(self.windows) > 1:
                self.unet.bind(constants)
            noise = self.unet(sample=sample[window.start : window.stop], timestep=timestep)["noise_pred"]
            predictions.append(guide(noise, self.guidance_scale, self.guided))
        return fuse(predictions, self.windows, self.weights)


def denoise(
    predict: Callable[[Tensor, Tensor], Tensor],
    sample: Tensor,
    scheduler: Any,
    step_kwargs: Mapping[str, Any],
    step_noise: StepNoise,
    on_step: StepCallback,
) -> Tensor:
    """Noise to clean latents, [N, 4, h, w] FP32; `on_step` may replace them. Nothing is read back from the device."""
    timesteps = scheduler.timesteps.to(sample.device, torch.float32)
    for i, t in enumerate(scheduler.timesteps):
        noise = predict(scheduler.scale_model_input(sample, t), timesteps[i : i + 1])
        step_noise.step = i
        with step_noise:
            sample = scheduler.step(noise, t, sample, **step_kwargs).prev_sample
        sample = on_step(i, t, sample)
    return sample
