"""Computes HERO's training objective (Eq. 1) with the conditions of inference."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from hero_rt.errors import UsageError
from hero_rt.models.attention import AttentionConstants
from hero_rt.models.flow_encoder import FlowEncoder3D
from hero_rt.models.hero import HeroModel
from hero_rt.models.refnet import RefNet3D
from hero_rt.models.semantic import OpenClipProjection
from hero_rt.models.unet import UNet3D

FROZEN = ("vae", "image_encoder", "image_encoder_2")


class HeroObjective(nn.Module):
    """Holds the trained parts and computes the loss of one window.

    The RefNet and the flow encoder run once per window for all its timesteps, as at inference. Their gradients sum over
    the timesteps.
    """

    def __init__(self, model: HeroModel, scheduler: Any, known_weight: float):
        """Hold the parts. known_weight: weight of the loss in known regions, which the composite discards."""
        super().__init__()
        self.config = model.config
        self.unet: UNet3D = model["unet"]
        self.refnet: RefNet3D = model["refnet"]
        self.flow_encoder: FlowEncoder3D = model["flow_encoder"]
        self.image_projection: OpenClipProjection = model["image_projection"]
        self.train().requires_grad_(True)
        self.frozen = {part: model[part] for part in FROZEN}  # in a tuple, so that no state_dict holds it
        self.scheduler, self.known_weight = scheduler, known_weight

    @torch.no_grad()
    def hold_at_zero(self, patterns: Sequence[str]) -> None:
        """Hold parameters at zero by shell patterns of their names. Raises UsageError if a pattern fits none.

        The network is then trained without them, so the runtime needs no change for an ablation.
        """
        for pattern in patterns:
            held = [parameter for name, parameter in self.named_parameters() if fnmatchcase(name, pattern)]
            if not held:
                raise UsageError(f"--hold-at-zero {pattern!r} fits no parameter, for instance refnet.*.im3_alpha")
            for parameter in held:
                parameter.zero_().requires_grad_(False)

    def forward(self, example: dict[str, Tensor], noise: Tensor, timesteps: Tensor, drop_semantic: bool) -> Tensor:
        """Return the mean loss. example: tensors of one window; noise: [T, F, 4, h, w]; timesteps: int64 [T].

        drop_semantic: use the null condition of classifier-free guidance for this window.
        """
        latents, masked, clip_embeds, image_embeds = self._encode(example)
        openclip_embeds = self.image_projection(image_embeds)
        num_frames = len(latents)
        zero = torch.zeros(1, device=latents.device)
        features = self.refnet(masked, clip_embeds, openclip_embeds, zero, num_frames)
        references = self.unet.project_reference(features)
        keep, semantic = 0.0 if drop_semantic else 1.0, self.unet.project_semantic(clip_embeds, openclip_embeds)
        constants = [
            AttentionConstants(keep * one.clip_v, one.openclip_k, keep * one.openclip_v, k, v)
            for one, (k, v) in zip(semantic, references, strict=True)
        ]
        flow_reads = (example["flow_mask"], clip_embeds, openclip_embeds)
        synced = self.config.ofe_timestep == "synced"
        residuals = [] if synced else self.flow_encoder(*flow_reads, zero, num_frames)
        condition = torch.cat([example["mask"], masked], dim=1)
        weight = self.known_weight + (1 - self.known_weight) * example["mask"]
        losses = []
        for row, timestep in zip(noise, timesteps, strict=True):
            t = timestep.reshape(1)
            noisy = self.scheduler.add_noise(latents, row, t.expand(num_frames))
            if synced:
                residuals = self.flow_encoder(*flow_reads, t, num_frames)
            predicted = self.unet(noisy, t, condition, constants, residuals, num_frames)
            error = (predicted.float() - self._target(latents, row, t.expand(num_frames))).square()
            losses.append((error * weight).mean() / weight.mean())
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _encode(self, example: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        vae = self.frozen["vae"]
        both = torch.cat([example["target"], example["frames"]])
        # FP32: under autocast the scheduler would mix latents and noise in BF16
        latents, masked = (vae.encode(both).latent_dist.mode().float() * vae.config.scaling_factor).chunk(2)
        clip_embeds = self.frozen["image_encoder"](example["pixel_values"]).image_embeds[:, None]
        return latents, masked, clip_embeds, self.frozen["image_encoder_2"](example["pixel_values"]).image_embeds

    def _target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timesteps)
        return noise if kind == "epsilon" else latents
