"""Names the weights that an export starts from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hero_rt.errors import UsageError
from hero_rt.spec.config import PRESETS, HeroConfig

if TYPE_CHECKING:
    import torch

    from hero_rt.models.hero import HeroModel

RANDOM = "random"


@dataclass(frozen=True)
class Checkpoint:
    """The weights of an export.

    Attributes:
        name: a folder, a bundled name, a Hub id, or "random".
        preset: sizes of random weights; None for other names.
        seed: seed of random weights.

    Raises:
        UsageError: "random" without a preset, a preset with another name, or an unknown preset.
    """

    name: str
    preset: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name == RANDOM and self.preset is None:
            raise UsageError(f"checkpoint 'random' has no sizes of its own; add --preset, of {', '.join(PRESETS)}")
        if self.preset is not None:
            HeroConfig.from_preset(self.preset)  # an unknown one is refused now
        if self.name != RANDOM and self.preset is not None:
            raise UsageError(f"checkpoint {self.name!r} knows its sizes; leave --preset {self.preset} out")

    @property
    def label(self) -> str:
        """The name of the weights inside exported files. A local folder gives its last part only."""
        if self.preset is not None:
            return f"{self.name} {self.preset}, seed {self.seed}"
        return Path(self.name).resolve().name if Path(self.name).is_dir() else self.name

    def load(self, dtype: "torch.dtype | None" = None, device: str = "cpu") -> "HeroModel":
        """Open the model. Parts are loaded when they are first used.

        Args:
            dtype: default FP32.
            device: "cpu", "cuda" or "cuda:1".
        """
        import torch

        from hero_rt.models.hero import HeroModel

        dtype = dtype or torch.float32
        if self.preset is not None:
            return HeroModel.random(HeroConfig.from_preset(self.preset), self.seed, dtype, device)
        return HeroModel.from_pretrained(self.name, dtype, device)

    def digest(self) -> str:
        """Return the SHA-256 of the folder's files, or of the preset and seed."""
        if self.preset is not None:
            return hashlib.sha256(repr(self).encode()).hexdigest()
        from hero_rt.engines.manifest import sha256_of
        from hero_rt.models.hero import local_folder

        folder = local_folder(self.name)
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
        listing = "".join(f"{path.relative_to(folder)} {sha256_of(path)}\n" for path in files)
        return hashlib.sha256(listing.encode()).hexdigest()
