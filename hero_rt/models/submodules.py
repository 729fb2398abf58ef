"""Makes the PyTorch module of each of the six submodules. `hero_rt.spec.boundary` defines inputs and outputs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hero_rt.errors import UsageError
from hero_rt.models.attention import AttentionConstants
from hero_rt.models.hero import HeroModel
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.config import NUM_ATTENTIONS, NUM_RESIDUALS
from hero_rt.spec.profile import Profile


class VaeEncoder(nn.Module):
    """Encodes frames [N, 3, H, W] in [-1, 1] to the posterior's mode x scaling factor, [N, 4, h, w]."""

    def __init__(self, model: HeroModel, profile: Profile):
        super().__init__()
        vae = model["vae"]
        self.encoder, self.quant_conv, self.scale = vae.encoder, vae.quant_conv, vae.config.scaling_factor
        self.slicing = vae.use_slicing

    def forward(self, frames: Tensor) -> Tensor:
        return _by_frame(self._encode, frames) if self.slicing else self._encode(frames)

    def _encode(self, frames: Tensor) -> Tensor:
        mean, _ = self.quant_conv(self.encoder(frames)).chunk(2, dim=1)
        return mean * self.scale


class VaeDecoder(nn.Module):
    """Decodes latents [N, 4, h, w] to frames [N, 3, H, W] in about [-1, 1]."""

    def __init__(self, model: HeroModel, profile: Profile):
        super().__init__()
        vae = model["vae"]
        self.decoder, self.post_quant_conv, self.scale = vae.decoder, vae.post_quant_conv, vae.config.scaling_factor
        self.slicing = vae.use_slicing

    def forward(self, latents: Tensor) -> Tensor:
        return _by_frame(self._decode, latents) if self.slicing else self._decode(latents)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latents / self.scale))


def _by_frame(run: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    return torch.cat([run(frame) for frame in frames.split(1)])


class Semantic(nn.Module):
    """Runs both CLIP encoders, and projects their tokens to the values and keys of the UNet's cross-attentions."""

    def __init__(self, model: HeroModel, profile: Profile):
        super().__init__()
        self.clip, self.openclip = model["image_encoder"], model["image_encoder_2"]
        self.projection = model["image_projection"]
        attentions = [attention.block.attn2 for attention in model["unet"].spatial_attentions()]
        self.cross_attentions = nn.ModuleList(attentions)  # registers their weights
        self.cross_projections = [attention.project_semantic for attention in attentions]

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        clip_embeds = self.clip(pixel_values).image_embeds[:, None]
        openclip_embeds = self.projection(self.openclip(pixel_values).image_embeds)
        projected = [attention(clip_embeds, openclip_embeds)[:3] for attention in self.cross_projections]
        clip_v, openclip_k, openclip_v = zip(*projected, strict=True)
        return (clip_embeds, openclip_embeds, *clip_v, *openclip_k, *openclip_v)


class Reference(nn.Module):
    """Runs the RefNet at t = 0, and projects its features to keys and values of the UNet's self-attentions."""

    def __init__(self, model: HeroModel, profile: Profile):
        super().__init__()
        self.refnet, self.num_frames = model["refnet"], profile.frames
        attentions = [attention.block.attn1 for attention in model["unet"].spatial_attentions()]
        self.self_attentions = nn.ModuleList(attentions)  # registers their weights
        self.self_projections = [attention.project_reference for attention in attentions]

    def forward(self, latents: Tensor, clip_embeds: Tensor, openclip_embeds: Tensor) -> tuple[Tensor, ...]:
        timestep = torch.zeros(1, device=latents.device)
        features = self.refnet(latents, clip_embeds, openclip_embeds, timestep, self.num_frames)
        projected = [project(feature) for project, feature in zip(self.self_projections, features, strict=True)]
        return (*(k for k, _ in projected), *(v for _, v in projected))


class FlowResiduals(nn.Module):
    """Runs the flow encoder.

    As the submodule `flow_encoder` it gets no timestep and uses 0. If the config says `ofe_timestep="synced"`,
    `UNetStep` runs it in each step and passes the sampler's timestep.
    """

    def __init__(self, model: HeroModel, profile: Profile):
        super().__init__()
        self.flow_encoder, self.num_frames = model["flow_encoder"], profile.frames

    def forward(
        self, flow_mask: Tensor, clip_embeds: Tensor, openclip_embeds: Tensor, timestep: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        if timestep is None:
            timestep = torch.zeros(1, device=flow_mask.device)
        return tuple(self.flow_encoder(flow_mask, clip_embeds, openclip_embeds, timestep, self.num_frames))


class UNetStep(nn.Module):
    """Runs the UNet for one denoising step. Its inputs have the order of `submodule_io("unet_step", ...)`."""

    def __init__(self, model: HeroModel, profile: Profile):
        super().__init__()
        self.unet, self.num_frames, self.guided = model["unet"], profile.frames, profile.guided
        self.synced_flow = FlowResiduals(model, profile) if model.config.ofe_timestep == "synced" else None

    def forward(self, sample: Tensor, timestep: Tensor, condition: Tensor, *constants: Tensor) -> Tensor:
        groups = [constants[i * NUM_ATTENTIONS : (i + 1) * NUM_ATTENTIONS] for i in range(5)]
        ref_k, ref_v, clip_v, openclip_k, openclip_v = groups
        flow = constants[5 * NUM_ATTENTIONS :]
        residuals = self.synced_flow(*flow, timestep) if self.synced_flow is not None else flow
        assert len(residuals) == NUM_RESIDUALS
        reads = [AttentionConstants(*row) for row in zip(clip_v, openclip_k, openclip_v, ref_k, ref_v, strict=True)]
        return self.unet(sample, timestep, condition, reads, residuals, self.num_frames, self.guided).float()


_MODULES: dict[str, type[nn.Module]] = {
    "vae_encoder": VaeEncoder,
    "semantic": Semantic,
    "refnet": Reference,
    "flow_encoder": FlowResiduals,
    "unet_step": UNetStep,
    "vae_decoder": VaeDecoder,
}


def build_submodule(model: HeroModel, name: str, profile: Profile) -> nn.Module:
    """Make the PyTorch module of a submodule. Only the parts that it needs are loaded.

    The module takes its inputs by position and returns a tensor or a tuple. Raises UsageError if the profile's window
    is longer than the model's positions.
    """
    if name not in _MODULES:
        raise UsageError(f"unknown submodule {name!r}; known: {', '.join(SUBMODULES)}")
    return _MODULES[name](model, profile).eval()
