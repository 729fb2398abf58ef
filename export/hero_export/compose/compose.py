"""Initialises a checkpoint as HERO's paper does before training, part by part."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from hero_export.compose import sources
from hero_export.compose.options import Sources
from hero_export.compose.report import Report
from hero_export.compose.sources import Source
from hero_rt.errors import UsageError, first_line
from hero_rt.models.hero import PARTS, HeroModel
from hero_rt.models.refnet import RefNet3D
from hero_rt.models.unet import UNet3D
from hero_rt.spec.config import LATENT_CHANNELS, HeroConfig

_EMBEDDING = "controlnet_cond_embedding."
_ZERO = {
    "im3_alpha": "starts without a blend",
    "controlnet_down_blocks.": "starts without a residual",
    "controlnet_mid_block.": "starts without a residual",
}
_NOT_VISION = {
    "text_model.": "CLIP's text encoder",
    "text_projection.": "CLIP's text encoder",
    "logit_scale": "CLIP's training loss",
    "position_ids": "0, 1, 2, ..., recomputed",
}
_WHY_UNUSED = {
    "attn2.to_k.weight": "a softmax over the one CLIP token is 1",
    "mid_block.motion_modules.": "AnimateDiff v2's mid module; made with --mid-motion",
}


@torch.no_grad()
def compose(config: HeroConfig, where: Sources, seed: int, out: Path) -> Report:
    """Write the checkpoint to `out`, and report the origin of each of its tensors.

    UNet: Stable Diffusion 1.5 (from its 4-channel UNet, the 5 new input channels are zero), AnimateDiff's motion
    modules, IP-Adapter's keys and values for OpenCLIP, Stable Diffusion's own values for CLIP; alpha = 0. RefNet: the
    same. Flow encoder: random, as in the paper (2.3.2, 3.1), or the UNet's encoder; its output convolutions are zero.

    Raises UsageError, and writes nothing, if the origin of a tensor of the result is unknown, or the use of a tensor of
    a source.
    """
    base_path = sources.locate(where.stable_diffusion)
    base = sources.stable_diffusion_unet(base_path)
    motion = sources.motion_adapter(sources.locate(where.motion_adapter))
    adapter = sources.ip_adapter(sources.locate(where.ip_adapter))
    config = replace(config, mid_motion=config.mid_motion or any(k.startswith("mid_block.") for k in motion.weights))
    model = HeroModel.initial(config, seed)
    work = _Composition(model, base, motion, adapter)
    work.network("unet")
    work.network("refnet")
    work.flow_encoder(where.flow_encoder)
    work.projection()
    work.whole("vae", str(base_path), sources.vae(base_path, config), {})
    work.whole("image_encoder", where.image_encoder, *_clip(where.image_encoder))
    work.whole("image_encoder_2", where.image_encoder_2, *_clip(where.image_encoder_2))
    work.check()
    model.save_pretrained(out)
    return work.report


class _Composition:
    """Fills the parts of a model in place. It records the origin of each tensor and the source tensors that it read."""

    def __init__(self, model: HeroModel, base: Source, motion: Source, adapter: Source):
        self.model, self.base, self.motion, self.adapter = model, base, motion, adapter
        self.read: dict[str, set[str]] = {source.label: set() for source in (base, motion, adapter)}
        self.report = Report()

    def network(self, part: str) -> None:
        """Fill the UNet or the RefNet. The RefNet's last attention ends at its norm."""
        module = self.model[part]
        attentions = {id(attention): i for i, attention in _adapter_order(module)}
        ids = {
            f"{name}.transformer_blocks.0.attn2": f"{2 * attentions[id(child)] + 1}"
            for name, child in module.named_modules()
            if id(child) in attentions
        }
        for name, tensor in module.state_dict().items():
            prefix = name.rsplit(".to_", 1)[0]
            if zero := _reason(_ZERO, name):
                self._zero(part, name, tensor, zero)
            elif ".motion_modules." in name:
                self._copy(part, name, tensor, self.motion, name)
            elif "_ip.0." in name:
                projection = name.rsplit(".", 3)[1]  # to_k_ip or to_v_ip
                self._copy(part, name, tensor, self.adapter, f"{ids[prefix]}.{projection}.weight")
            elif name == "conv_in.weight":
                self._conv_in(part, tensor)
            else:
                self._copy(part, name, tensor, self.base, name)

    def flow_encoder(self, start: str) -> None:
        """Fill the flow encoder at random or from the UNet. The embedding is random, the output convolutions zero."""
        if start not in ("unet", "random"):
            raise UsageError(f"the flow encoder starts from 'unet' or 'random', not {start!r}")
        unet = self.model["unet"].state_dict()
        for name, tensor in self.model["flow_encoder"].state_dict().items():
            key = f"flow_encoder/{name}"
            if zero := _reason(_ZERO, name):
                self._zero("flow_encoder", name, tensor, zero)
            elif name.startswith(_EMBEDDING) or start == "random":
                why = "new in HERO" if name.startswith(_EMBEDDING) else "trained from scratch"
                self.report.made[key] = ("random", why)
            else:
                tensor.copy_(unet[name])
                self.report.made[key] = ("copied", f"unet/{name}")

    def projection(self) -> None:
        for name, tensor in self.model["image_projection"].state_dict().items():
            self._copy("image_projection", name, tensor, self.adapter, name)

    def whole(self, part: str, label: str, module: nn.Module, unused: dict[str, str]) -> None:
        """Copy a part without a change, tensor by tensor."""
        self.report.unused |= {f"{label}: {key}": why for key, why in unused.items()}
        theirs = module.state_dict()
        for name, tensor in self.model[part].state_dict().items():
            key = f"{part}/{name}"
            if name not in theirs or theirs[name].shape != tensor.shape:
                seen = list(theirs[name].shape) if name in theirs else "missing"
                raise UsageError(f"{label}: {name} is {seen}, this preset takes {list(tensor.shape)}")
            tensor.copy_(theirs[name])
            self.report.made[key] = ("copied", label)

    def check(self) -> None:
        left_over: dict[str, set[str]] = {}
        for source in (self.base, self.motion, self.adapter):
            unread = source.weights.keys() - self.read[source.label]
            explained = {key: why for key in unread if (why := source.ignored.get(key) or _reason(_WHY_UNUSED, key))}
            self.report.unused |= {f"{source.label}: {key}": why for key, why in explained.items()}
            left_over[source.label] = unread - explained.keys()
        whole = {f"{part}/{name}" for part in PARTS for name in self.model[part].state_dict()}
        self.report.require_explained(whole, left_over)

    def _copy(self, part: str, name: str, tensor: Tensor, source: Source, key: str) -> None:
        if key not in source.weights:
            raise UsageError(f"{source.label} has no {key}, which {part}/{name} starts from")
        value = source.weights[key]
        # proj_in and proj_out are 1x1 convolutions in Stable Diffusion 1.x and linear layers in some exports of it
        if value.ndim != tensor.ndim and value.numel() == tensor.numel():
            value = value.reshape(tensor.shape)
        if value.shape != tensor.shape:
            raise UsageError(f"{source.label}: {key} is {list(value.shape)}, {part} takes {list(tensor.shape)}")
        tensor.copy_(value)
        self.read[source.label].add(key)
        self.report.made[f"{part}/{name}"] = ("copied", f"{source.label}: {key}")

    def _conv_in(self, part: str, tensor: Tensor) -> None:
        """Fill the first convolution: 9 channels in the UNet (noise 4, mask 1, masked latents 4), 4 in the RefNet."""
        value = self.base.weights["conv_in.weight"]
        theirs = value.shape[1]
        if theirs not in (LATENT_CHANNELS, 2 * LATENT_CHANNELS + 1):
            raise UsageError(f"{self.base.label}: conv_in takes {theirs} channels, expected 4 or 9 (inpainting)")
        channels = min(tensor.shape[1], theirs)
        tensor.zero_()
        tensor[:, :channels] = value[:, :channels]
        self.read[self.base.label].add("conv_in.weight")
        rest = f"; channels {channels} to {tensor.shape[1] - 1} zero" if channels < tensor.shape[1] else ""
        self.report.made[f"{part}/conv_in.weight"] = ("copied", f"{self.base.label}: conv_in.weight{rest}")

    def _zero(self, part: str, name: str, tensor: Tensor, why: str) -> None:
        tensor.zero_()
        self.report.made[f"{part}/{name}"] = ("zero", why)


def _adapter_order(module: UNet3D | RefNet3D) -> Iterator[tuple[int, nn.Module]]:
    """Number the cross-attentions as IP-Adapter does, in the order in which diffusers registers them: down, up, mid."""
    blocks = [*module.down_blocks, *module.up_blocks, module.mid_block]
    attentions = [a for block in blocks for a in getattr(block, "attentions", []) if hasattr(a, "transformer_blocks")]
    # the RefNet lacks the last attention of the decoder, whose number stays free
    missing = 16 - len(attentions)
    for i, attention in enumerate(attentions):
        last = i == len(attentions) - 1
        yield i + missing * last, attention


def _reason(reasons: dict[str, str], name: str) -> str | None:
    return next((why for part, why in reasons.items() if name.endswith(part) or name.startswith(part)), None)


def _clip(name: str) -> tuple[nn.Module, dict[str, str]]:
    """Return the image encoder of a CLIP checkpoint, and the tensors that HERO does not use, with the reason."""
    path = sources.locate(name)
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # its table of unexpected keys: the report has them
    try:
        module, info = CLIPVisionModelWithProjection.from_pretrained(
            path, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name}: not a CLIP vision model: {first_line(error)}") from error
    finally:
        transformers.logging.set_verbosity(verbosity)
    if info["missing_keys"]:
        raise UsageError(f"{name}: {len(info['missing_keys'])} tensors are missing, first {min(info['missing_keys'])}")
    return module, {key: _why_not_in_clip(name, key) for key in info["unexpected_keys"]}


def _why_not_in_clip(name: str, key: str) -> str:
    if why := _reason(_NOT_VISION, key):
        return why
    raise UsageError(f"{name}: {key} has no place in HERO; is it a checkpoint of another model?")
