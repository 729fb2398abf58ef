"""Baselines that cache less than this project does: the step recomputes what stays constant while denoising."""

import torch
from torch import Tensor

from hero_rt.engines.eager import EagerEngine, ModuleEngine
from hero_rt.engines.engine import Engine, EngineSet
from hero_rt.models.hero import HeroModel
from hero_rt.models.submodules import build_submodule
from hero_rt.spec.boundary import Specs, submodule_io
from hero_rt.spec.config import NUM_ATTENTIONS
from hero_rt.spec.profile import Profile

NUM_EMBEDS = 2  # clip_embeds, openclip_embeds
STEP = ("sample", "timestep", "condition")


def step_io(model: HeroModel, profile: Profile) -> tuple[Specs, Specs]:
    return submodule_io("unet_step", model.config, profile, model.dtype)


def without(specs: Specs, *prefixes: str) -> Specs:
    return {name: spec for name, spec in specs.items() if not name.startswith(prefixes)}


def uncached_step(model: HeroModel, profile: Profile) -> ModuleEngine:
    """A step that runs the RefNet and the flow encoder too, as a pipeline without the cache does.

    Its inputs are the step's, with the CLIP tokens and flow_mask in place of `ref_*` and `flow_residual.*`.
    """
    step, refnet, flow = (build_submodule(model, name, profile) for name in ("unet_step", "refnet", "flow_encoder"))
    inputs, outputs = step_io(model, profile)
    flow_inputs, _ = submodule_io("flow_encoder", model.config, profile, model.dtype)  # flow_mask, the two embeds
    semantic = without(inputs, *STEP, "ref_", "flow_residual")

    def forward(sample: Tensor, timestep: Tensor, condition: Tensor, *constants: Tensor) -> Tensor:
        split = len(constants) - 1 - NUM_EMBEDS
        semantic_constants, (flow_mask, *embeds) = constants[:split], constants[split:]
        reference = refnet(condition[:, 1:], *embeds)  # the condition is the mask, then f_l
        residuals = flow(flow_mask, *embeds)
        return step(sample, timestep, condition, *reference, *semantic_constants, *residuals)

    own = {name: inputs[name] for name in STEP} | semantic | flow_inputs
    return ModuleEngine(f"eager-uncached unet_step {profile}", forward, own, outputs, model.device)


def raw_features_step(model: HeroModel, profile: Profile) -> ModuleEngine:
    """A step that is given the RefNet's features as they are and projects them to keys and values itself.

    Its inputs are the step's, with `ref_feature.{i}` [N, S, C] in place of ref_k and ref_v.
    """
    step = build_submodule(model, "unet_step", profile)
    inputs, outputs = step_io(model, profile)
    features = {name.replace("ref_k", "ref_feature"): spec for name, spec in inputs.items() if name.startswith("ref_k")}
    rest = without(inputs, *STEP, "ref_")

    def forward(sample: Tensor, timestep: Tensor, condition: Tensor, *constants: Tensor) -> Tensor:
        projected = model["unet"].project_reference(constants[:NUM_ATTENTIONS])
        reference = (*(k for k, _ in projected), *(v for _, v in projected))
        return step(sample, timestep, condition, *reference, *constants[NUM_ATTENTIONS:])

    own = {name: inputs[name] for name in STEP} | features | rest
    return ModuleEngine(f"eager-raw-features unet_step {profile}", forward, own, outputs, model.device)


@torch.inference_mode()
def reference_features(model: HeroModel, profile: Profile, condition: Tensor, *embeds: Tensor) -> dict[str, Tensor]:
    """What `raw_features_step` reads of the RefNet. condition: [N, 5, h, w]; embeds: clip_embeds, openclip_embeds."""
    timestep = torch.zeros(1, device=condition.device)
    features = model["refnet"](condition[:, 1:], *embeds, timestep, profile.frames)
    return {f"ref_feature.{i}": feature for i, feature in enumerate(features)}


class UncachedEngines(EngineSet):
    """The eager model with nothing but the CLIP streams cached."""

    def __init__(self, model: HeroModel):
        super().__init__(model.config, model.dtype, model.device)
        self.model = model

    def _open(self, submodule: str, profile: Profile) -> Engine:
        if submodule == "refnet":  # the step runs it
            inputs, _ = submodule_io(submodule, self.config, profile, self.dtype)
            return ModuleEngine("eager-uncached refnet", lambda *_: (), inputs, {}, self.device)
        if submodule == "unet_step":
            return uncached_step(self.model, profile)
        return EagerEngine(self.model, submodule, profile)
