"""Defines a HERO checkpoint as data: the sizes of its networks, and the choices that the paper leaves open."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from hero_rt.errors import UsageError

Im3Placement = Literal["attention", "module", "output"]
OfeTimestep = Literal["zero", "synced"]
CanvasFill = Literal["grey", "propagated"]

LATENT_CHANNELS = 4
VAE_SCALE = 8  # pixels a side of one latent cell
IMAGE_SIZE = 224  # both CLIP encoders
NUM_ATTENTIONS = 16
NUM_RESIDUALS = 13  # 12 down + 1 mid
NETWORK_FIELDS = (
    "block_out_channels",
    "num_attention_heads",
    "cross_attention_dim",
    "norm_num_groups",
    "mid_motion",
    "im3_placement",
)


@dataclass(frozen=True)
class HeroConfig:
    """Sizes and open choices of one HERO checkpoint.

    `vae`, `clip`, `openclip` and `scheduler` are the keyword arguments of diffusers' `AutoencoderKL`, transformers'
    `CLIPVisionConfig` (twice) and a diffusers scheduler (with its `_class_name`).
    """

    name: str
    block_out_channels: tuple[int, int, int, int]
    num_attention_heads: int
    cross_attention_dim: int
    norm_num_groups: int
    embedding_channels: tuple[int, ...]  # of the flow encoder's conditioning embedding, at 1/1, 1/2, 1/4, 1/8
    vae: dict[str, Any]
    clip: dict[str, Any]
    openclip: dict[str, Any]
    scheduler: dict[str, Any]
    num_frames: int = 16  # frames of a window
    num_openclip_tokens: int = 4
    mid_motion: bool = False  # AnimateDiff v2 has a motion module in the mid block
    im3_placement: Im3Placement = "attention"
    ofe_timestep: OfeTimestep = "zero"
    canvas_fill: CanvasFill = "grey"  # of the unknown pixels, before the VAE: see hero_rt/stages/fill.py
    decode_noise: float = 0.0  # of the latents that are decoded, where the scene moves: see hero_rt/stages/texture.py
    flow_scale: float | None = None  # pixels of flow that become 1; None: the canvas's width or height
    sample_size: int | None = None  # pixels a side that the model was trained at; None in older checkpoints
    max_ratio: float | None = None  # largest generated fraction of a side in training; None in older checkpoints

    @classmethod
    def from_preset(cls, name: str) -> "HeroConfig":
        """Return a preset by name. Raises UsageError, which names the known presets."""
        if name not in PRESETS:
            raise UsageError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        return PRESETS[name]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "HeroConfig":
        """Make a config from the result of `to_dict`. Raises UsageError for unknown or ill-typed fields."""
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"model config field {where!r}: {first['msg']} (got {first['input']!r})") from error

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def network(self) -> dict[str, Any]:
        """The fields that the UNet, the RefNet and the flow encoder share."""
        return {name: getattr(self, name) for name in NETWORK_FIELDS}

    def level_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return (h, w) of the four UNet levels for a canvas of `height` x `width` pixels (multiples of 8)."""
        sizes = [(height // VAE_SCALE, width // VAE_SCALE)]
        for _ in range(3):
            h, w = sizes[-1]
            sizes.append(((h + 1) // 2, (w + 1) // 2))
        return sizes

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """UNet level of each of the 16 spatial attentions, in execution order: down, mid, up."""
        return (0, 0, 1, 1, 2, 2, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0)

    @property
    def residual_levels(self) -> tuple[tuple[int, int], ...]:
        """(channel level, spatial level) of each of the 13 flow residuals: 12 of the encoder, then the mid block."""
        levels = [(0, 0)]
        for level in range(4):
            levels += [(level, level)] * 2 + [(level, level + 1)] * (level < 3)
        return (*levels, (3, 3))


_DDIM = {  # Stable Diffusion 1.5's scheduler
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}

# what a small model learns sooner: velocity at every noise level, and no image left in the first one (Lin et al. 2023)
_DDIM_VELOCITY = _DDIM | {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}

_VAE_SD15 = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": LATENT_CHANNELS,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}


def _clip(
    hidden_size: int, intermediate_size: int, layers: int, heads: int, patch_size: int, projection_dim: int, act: str
) -> dict[str, Any]:
    return {
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "patch_size": patch_size,
        "image_size": IMAGE_SIZE,
        "projection_dim": projection_dim,
        "hidden_act": act,
    }


PRESETS: dict[str, HeroConfig] = {
    "hero-sd15": HeroConfig(
        name="hero-sd15",
        block_out_channels=(320, 640, 1280, 1280),
        num_attention_heads=8,
        cross_attention_dim=768,
        norm_num_groups=32,
        embedding_channels=(16, 32, 96, 256),
        vae=_VAE_SD15,
        clip=_clip(1024, 4096, 24, 16, 14, 768, "quick_gelu"),  # OpenAI CLIP ViT-L/14
        openclip=_clip(1280, 5120, 32, 16, 14, 1024, "gelu"),  # OpenCLIP ViT-H/14, the encoder of IP-Adapter
        scheduler=_DDIM,
        flow_scale=4.0,
        sample_size=256,
        max_ratio=0.78,
    ),
    "hero-tiny": HeroConfig(
        name="hero-tiny",
        block_out_channels=(32, 32, 48, 48),
        num_attention_heads=2,
        cross_attention_dim=64,
        norm_num_groups=8,
        embedding_channels=(8, 16, 16, 32),
        vae=_VAE_SD15 | {"block_out_channels": [16, 32, 32, 32], "layers_per_block": 1, "norm_num_groups": 8},
        clip=_clip(64, 128, 2, 4, 32, 64, "quick_gelu"),
        openclip=_clip(96, 192, 2, 4, 32, 96, "gelu"),
        scheduler=_DDIM_VELOCITY,
        canvas_fill="propagated",
    ),
}

# The second edition's sizes. They take the name "hero-tiny" when its weights take the first edition's place.
PRESETS["hero-tiny-2"] = replace(
    PRESETS["hero-tiny"],
    block_out_channels=(32, 48, 48, 64),
    vae=_VAE_SD15 | {"block_out_channels": [32, 64, 128, 160], "layers_per_block": 1, "norm_num_groups": 8},
    flow_scale=4.0,
    sample_size=192,
    max_ratio=0.78,
)
