"""Reads public weights under diffusers' names from a folder, a .safetensors file or the Hub. It reads no pickle."""

from dataclasses import dataclass
from pathlib import Path

from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import (
    convert_animatediff_checkpoint_to_diffusers,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hero_rt.errors import UsageError, first_line
from hero_rt.spec.config import HeroConfig

Weights = dict[str, Tensor]
_LDM_UNET = "model.diffusion_model."


@dataclass(frozen=True)
class Source:
    """One named set of tensors. `ignored` maps the keys that HERO does not use to the reason."""

    label: str
    weights: Weights
    ignored: dict[str, str]


def locate(name: str) -> Path:
    """Return a local folder or file as it is, or the download of `owner/repo[/path]` (HF_HUB_OFFLINE is honoured).

    Raises UsageError, which names what is missing.
    """
    if Path(name).exists():
        return Path(name)
    owner_repo, path = "/".join(name.split("/")[:2]), "/".join(name.split("/")[2:])
    try:
        if path.endswith(".safetensors"):
            return Path(hf_hub_download(owner_repo, path))
        allowed = [(f"{path}/*" if path else "*") + suffix for suffix in (".json", ".safetensors")]
        return Path(snapshot_download(owner_repo, allow_patterns=allowed)) / path
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(f"{name!r} is neither a local path nor reachable on the Hub: {first_line(error)}") from error


def stable_diffusion_unet(path: Path) -> Source:
    """Read SD 1.5's UNet (4 or 9 input channels): a pipeline folder, its unet folder, or the original single file."""
    if path.is_dir():
        folder = path / "unet" if (path / "unet").is_dir() else path
        return Source(str(folder), _read(_weights_file(folder)), {})
    original = _read(path)
    if not any(key.startswith(_LDM_UNET) for key in original):
        raise UsageError(f"{path} holds no {_LDM_UNET}* tensors; is it a Stable Diffusion checkpoint?")
    converted = convert_ldm_unet_checkpoint(dict(original), {"layers_per_block": 2})
    lost = sum(key.startswith(_LDM_UNET) for key in original) - len(converted)
    if lost:
        raise UsageError(f"{path}: {lost} UNet tensors have names that are not Stable Diffusion 1.5's")
    return Source(str(path), converted, {})


def vae(path: Path, config: HeroConfig) -> AutoencoderKL:
    """Read the VAE: the pipeline's vae folder, or first_stage_model.* of the single file."""
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        return AutoencoderKL.from_pretrained(folder, use_safetensors=True)
    converted = convert_ldm_vae_checkpoint(dict(_read(path)), config.vae)
    module = AutoencoderKL(**config.vae)
    result = module.load_state_dict(converted, strict=False)
    if result.missing_keys or result.unexpected_keys:
        first = (result.missing_keys + result.unexpected_keys)[0]
        raise UsageError(f"{path} holds no whole VAE of this size: {first} is missing or unexpected")
    return module


def motion_adapter(path: Path) -> Source:
    """Read AnimateDiff v1, v2 or v3: a MotionAdapter folder, or the original file (`temporal_transformer` names)."""
    weights = _read(_weights_file(path) if path.is_dir() else path)
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    positions = {key: "a sinusoid, recomputed" for key in weights if "pos_encoder" in key or key.endswith(".pe")}
    if any("temporal_transformer" in key for key in weights):
        kept = {key: value for key, value in weights.items() if key not in positions}
        weights = convert_animatediff_checkpoint_to_diffusers(kept)
        positions = {}
    return Source(str(path), weights, positions)


def ip_adapter(path: Path) -> Source:
    """Read IP-Adapter (`image_proj.*`, `ip_adapter.N.*`) as HERO's `image_embeds`, `norm` and `N.to_k_ip`."""
    file = path if path.is_file() else _weights_file(path)
    weights = {}
    for key, value in _read(file).items():
        name = key.removeprefix("image_proj.").replace("proj.", "image_embeds.", 1) if "image_proj." in key else key
        weights[name.removeprefix("ip_adapter.")] = value
    return Source(str(file), weights, {})


def _weights_file(folder: Path) -> Path:
    names = ("diffusion_pytorch_model", "model", "ip-adapter_sd15")
    files = (folder / f"{name}{variant}.safetensors" for name in names for variant in ("", ".fp16"))
    if found := next(filter(Path.exists, files), None):
        return found
    raise UsageError(
        f"{folder} holds none of {', '.join(f'{name}.safetensors' for name in names)}; pickled weights "
        "(.bin, .ckpt) are not read: convert them to safetensors first"
    )


def _read(file: Path) -> Weights:
    if file.suffix != ".safetensors":
        raise UsageError(f"{file} is not a .safetensors file; pickled weights can run code and are not read")
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{file} cannot be read as safetensors: {error}") from error
