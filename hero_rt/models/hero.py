"""Holds a HERO checkpoint. Each part is made or loaded when it is first used."""

import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.utils import logging

from hero_rt.errors import UsageError, first_line
from hero_rt.models.flow_encoder import FlowEncoder3D
from hero_rt.models.motion import MotionModule
from hero_rt.models.refnet import RefNet3D
from hero_rt.models.semantic import OpenClipProjection
from hero_rt.models.unet import UNet3D
from hero_rt.spec.config import NETWORK_FIELDS, HeroConfig

BUNDLED = Path(__file__).parents[1] / "checkpoints"  # trained ones that come with this package
PARTS: dict[str, type[Any]] = {
    "unet": UNet3D,
    "refnet": RefNet3D,
    "flow_encoder": FlowEncoder3D,
    "vae": AutoencoderKL,
    "image_encoder": CLIPVisionModelWithProjection,  # OpenAI CLIP ViT-L/14
    "image_encoder_2": CLIPVisionModelWithProjection,  # OpenCLIP ViT-H/14
    "image_projection": OpenClipProjection,
}
_HUB_ARGUMENTS = {"revision", "token", "cache_dir", "local_files_only"}
# of the config, that no part's own config.json holds
_OWN_FIELDS = ("name", "num_frames", "canvas_fill", "decode_noise", "flow_scale", "sample_size", "max_ratio")


class HeroModel:
    """The parts of one checkpoint in one dtype on one device: `model["unet"]`, `model["vae"]`, ...

    Parts are in eval mode and need no gradients; training turns both back on.
    """

    def __init__(
        self,
        config: HeroConfig,
        make_part: Callable[[str], nn.Module],
        dtype: torch.dtype,
        device: torch.device | str,
    ):
        self.config = config
        self.dtype = dtype
        self.device = torch.device(device)
        self._make_part = make_part
        self._parts: dict[str, nn.Module] = {}

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        variant: str | None = None,
        **hub: Any,
    ) -> "HeroModel":
        """Open a diffusers-style folder, "hero-tiny" (part of this package) or a Hub id.

        Only JSON and safetensors are read.

        Args:
            variant: read *.VARIANT.safetensors, for instance "fp16".
            hub: revision, token, cache_dir and local_files_only of a Hub id; a folder ignores them.

        Raises:
            UsageError: the checkpoint is missing, incomplete or not a HERO checkpoint.
        """
        folder = local_folder(checkpoint, variant, **hub)
        config = _read_config(folder)
        return cls(config, lambda part: _load_part(folder, part, variant), dtype, device)

    @classmethod
    def initial(cls, config: HeroConfig, seed: int, device: torch.device | str = "cpu") -> "HeroModel":
        """Make the model from which training from nothing starts. Zero-initialised layers and alphas are zero."""
        return cls(config, lambda part: _seeded_part(config, part, seed), torch.float32, device)

    @classmethod
    def random(
        cls,
        config: HeroConfig | str,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> "HeroModel":
        """Make seeded random weights for tests and benchmarks. Zero-initialised layers and alphas are random too.

        Each part has a seed of its own, so that one part alone equals that part of the whole.
        """
        config = HeroConfig.from_preset(config) if isinstance(config, str) else config
        return cls(config, lambda part: _seeded_part(config, part, seed, randomise=True), dtype, device)

    def __getitem__(self, part: str) -> Any:
        if part not in self._parts:
            # nn.Module's own `to`: diffusers' warns about float32 modules that these parts do not have
            module = nn.Module.to(self._make_part(part), device=self.device, dtype=self.dtype)
            self._parts[part] = module.eval().requires_grad_(False)
        return self._parts[part]

    def set_ofe_timestep(self, ofe_timestep: str) -> None:
        """Set the paper's ablation. "synced" gives the flow encoder the sampler's timestep. Raises UsageError."""
        self.config = HeroConfig.from_dict(self.config.to_dict() | {"ofe_timestep": ofe_timestep})
        self["flow_encoder"].register_to_config(ofe_timestep=ofe_timestep)

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        """Move every part, also parts that are made later."""
        self.device, self.dtype = device or self.device, dtype or self.dtype
        for module in self._parts.values():
            nn.Module.to(module, device=self.device, dtype=self.dtype)

    def save_pretrained(self, folder: str | Path, scheduler: Any = None) -> None:
        """Write the checkpoint as a diffusers-style folder.

        The folder holds model_index.json, the scheduler's config, and one folder for each part. A part's folder holds
        its config.json and its weights as safetensors.

        Args:
            folder: is created if it does not exist.
            scheduler: a diffusers scheduler in place of the config's.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            self[part].save_pretrained(folder / part)
            path = folder / part / "config.json"
            config = _read_json(path)
            if config.pop("_name_or_path", None) is not None:  # where it was loaded from, on this machine
                _write_json(path, config)
        (folder / "scheduler").mkdir(exist_ok=True)
        sampler = self.config.scheduler if scheduler is None else json.loads(scheduler.to_json_string())
        _write_json(folder / "scheduler" / "scheduler_config.json", sampler)
        library = {AutoencoderKL: "diffusers", CLIPVisionModelWithProjection: "transformers"}
        index: dict[str, Any] = {part: [library.get(cls, "hero_rt"), cls.__name__] for part, cls in PARTS.items()}
        index["scheduler"] = ["diffusers", sampler["_class_name"]]
        # last: a folder without it is not a checkpoint, so an interrupted save is never taken for a whole one
        chosen = {key: getattr(self.config, key) for key in _OWN_FIELDS}
        index |= {"_class_name": "HeroModel"} | {key: value for key, value in chosen.items() if value is not None}
        _write_json(folder / "model_index.json", index)


def make_part(config: HeroConfig, part: str) -> nn.Module:
    """Make one part, initialised as training starts (zero-initialised layers at zero)."""
    if part in ("unet", "refnet"):
        return PARTS[part](**config.network)
    if part == "flow_encoder":
        return FlowEncoder3D(
            **config.network, embedding_channels=config.embedding_channels, ofe_timestep=config.ofe_timestep
        )
    if part == "vae":
        return AutoencoderKL(**config.vae)
    if part == "image_projection":
        return OpenClipProjection(
            config.openclip["projection_dim"], config.cross_attention_dim, config.num_openclip_tokens
        )
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(**(config.clip if part == "image_encoder" else config.openclip))
    )


def _seeded_part(config: HeroConfig, part: str, seed: int, randomise: bool = False) -> nn.Module:
    """Make one part. `randomise` also draws the values that initialisation sets to 0 or 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + zlib.crc32(part.encode()))
        module = make_part(config, part)
        for layer in module.modules() if randomise else ():
            if isinstance(layer, nn.Linear | nn.Conv2d) and not layer.weight.any():
                layer.reset_parameters()
            elif isinstance(layer, nn.GroupNorm | nn.LayerNorm):
                nn.init.normal_(layer.weight, 1.0, 0.1)
                nn.init.normal_(layer.bias, 0.0, 0.1)
            elif isinstance(layer, MotionModule):
                nn.init.uniform_(layer.im3_alpha, 0.1, 0.4)
    return module


def local_folder(checkpoint: str | Path, variant: str | None = None, **hub: Any) -> Path:
    """Return the folder of a checkpoint: the given one, one of this package, or the download of a Hub id.

    variant, hub: as of `HeroModel.from_pretrained`. Raises UsageError.
    """
    if unknown := hub.keys() - _HUB_ARGUMENTS:
        raise UsageError(
            f"from_pretrained has no argument {min(unknown)!r}; known: {', '.join(sorted(_HUB_ARGUMENTS))}"
        )
    for folder in (Path(checkpoint), BUNDLED / checkpoint):
        if folder.is_dir():
            return folder
    try:
        weights = _weights_pattern(variant)
        return Path(snapshot_download(str(checkpoint), allow_patterns=["*.json", weights], **hub))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        bundled = ", ".join(sorted(path.name for path in BUNDLED.iterdir()))
        offline = "it is not in the Hub's cache, and the Hub cannot be reached or is switched off (HF_HUB_OFFLINE)"
        reason = offline if isinstance(error, LocalEntryNotFoundError) else first_line(error)
        raise UsageError(
            f"checkpoint {str(checkpoint)!r} is neither a folder nor {bundled} nor a reachable Hub id: {reason}"
        ) from error


def _weights_pattern(variant: str | None) -> str:
    return "*.safetensors" if variant is None else f"*.{variant}.safetensors"


def _load_part(folder: Path, part: str, variant: str | None) -> nn.Module:
    if not any((folder / part).glob(_weights_pattern(variant))):
        kind = f"{_weights_pattern(variant)[1:]} file"
        raise UsageError(f"checkpoint {folder}: {part}/ holds no {kind}; the checkpoint is incomplete")
    cls = PARTS[part]
    try:
        with _no_bar():
            return cls.from_pretrained(folder / part, use_safetensors=True, variant=variant)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"checkpoint {folder}: cannot load {part}/ as {cls.__name__}: {first_line(error)}") from error


@contextmanager
def _no_bar() -> Iterator[None]:
    """Hide the progress bar that transformers draws for each encoder."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _read_config(folder: Path) -> HeroConfig:
    index = _read_json(folder / "model_index.json")
    if index.get("_class_name") != "HeroModel":
        raise UsageError(
            f"checkpoint {folder}: model_index.json is of a {index.get('_class_name')!r}, not a HeroModel; "
            "assemble one with: hero-export compose"
        )
    parts = {part: _read_json(folder / part / "config.json") for part in PARTS}
    return HeroConfig.from_dict(
        {
            "name": folder.name,
            **{key: index[key] for key in _OWN_FIELDS if key in index},
            **{key: parts["unet"][key] for key in NETWORK_FIELDS},
            **{key: parts["flow_encoder"][key] for key in ("embedding_channels", "ofe_timestep")},
            "num_openclip_tokens": parts["image_projection"]["num_tokens"],
            "vae": _public(parts["vae"]),
            "clip": _public(parts["image_encoder"]),
            "openclip": _public(parts["image_encoder_2"]),
            "scheduler": _read_json(folder / "scheduler" / "scheduler_config.json"),
        }
    )


def _public(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(f"checkpoint file {path} is missing; is {path.parent} a HERO checkpoint?") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"checkpoint file {path} is not JSON: {error}") from error


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
