"""Computes once everything that is constant while a window is denoised. `unet_step` binds it."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hero_rt.engines.engine import Engine, EngineSet
from hero_rt.spec.canvas import Canvas
from hero_rt.spec.config import IMAGE_SIZE, CanvasFill
from hero_rt.spec.profile import Profile
from hero_rt.stages.fill import propagated
from hero_rt.stages.flow import flow_mask
from hero_rt.stages.place import latent_mask, place_finished, place_source

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class WindowInputs:
    """The inputs of the submodules for one window, before any network.

    frames: [F, 3, MH, MW] in [-1, 1], the canvas; mask: [F, 1, h, w] and flow_mask: [F, 3, MH, MW], 1 = generate.
    """

    frames: Tensor
    mask: Tensor
    flow_mask: Tensor


def window_inputs(
    canvas: Canvas,
    source: np.ndarray,
    flow: np.ndarray,
    finished: np.ndarray | None,
    fill: CanvasFill,
    flow_scale: float | None = None,
) -> WindowInputs:
    """Place a window on its canvas. The arguments are those of `prepare_window`. Training uses this function too."""
    num_finished = 0 if finished is None else len(finished)
    frames = place_source(canvas, source)
    flow_and_mask = flow_mask(flow, canvas, flow_scale)
    mask = latent_mask(canvas).expand(len(source), -1, -1, -1).clone()
    if finished is not None:
        frames[:num_finished] = place_finished(canvas, finished)
        flow_and_mask[:num_finished, 2] = 0
        mask[:num_finished] = 0
    if fill == "propagated":
        frames = propagated(frames, flow_and_mask[:, 2] == 0, flow, canvas)
    return WindowInputs(frames, mask, flow_and_mask)


def prepare_window(
    engines: EngineSet,
    profile: Profile,
    canvas: Canvas,
    source: np.ndarray,
    flow: np.ndarray,
    finished: np.ndarray | None = None,
) -> dict[str, Tensor]:
    """Run the VAE encoder, both CLIPs, the RefNet and the flow encoder once each. Return the step's constants by name.

    source: uint8 [F, h, w, 3]; flow: its optical flow, float32 [F, 2, h, w] in pixels; finished: uint8
    [P, H, W, 3], outpainted frames that replace the first P as wholly known (mask 0), or None.
    """
    inputs = window_inputs(canvas, source, flow, finished, engines.config.canvas_fill, engines.config.flow_scale)
    frames, mask, flow_and_mask = (x.to(engines.device) for x in (inputs.frames, inputs.mask, inputs.flow_mask))
    unet_step = engines.open("unet_step", profile)
    latents = run_submodule(engines, "vae_encoder", profile, frames=frames)["latents"]
    semantic = run_submodule(engines, "semantic", profile, pixel_values=clip_pixels(frames))
    embeds = {name: semantic[name] for name in ("clip_embeds", "openclip_embeds")}
    available = {
        "condition": torch.cat([mask.to(latents), latents], dim=1),
        **semantic,
        **run_submodule(engines, "refnet", profile, latents=latents, **embeds),
    }
    if "flow_mask" in unet_step.inputs:  # the synced ablation: the step runs the flow encoder itself
        available["flow_mask"] = flow_and_mask.to(latents)
    else:
        available |= run_submodule(engines, "flow_encoder", profile, flow_mask=flow_and_mask, **embeds)
    return {name: tensor for name, tensor in available.items() if name in unet_step.inputs}


def clip_pixels(frames: Tensor) -> Tensor:
    """Resize and normalise canvas frames [F, 3, H, W] in [-1, 1] for both CLIPs, which see the whole canvas."""
    small = F.interpolate(frames, (IMAGE_SIZE, IMAGE_SIZE), mode="bicubic", antialias=True).clamp(-1, 1)
    mean, std = (torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (small / 2 + 0.5 - mean) / std


def run_submodule(engines: EngineSet, submodule: str, profile: Profile, **inputs: Tensor) -> dict[str, Tensor]:
    """Run one submodule once. Its inputs are converted to the dtypes and the device of the engine."""
    engine: Engine = engines.open(submodule, profile)
    return engine(**{name: x.to(engines.device, engine.inputs[name].dtype) for name, x in inputs.items()})
