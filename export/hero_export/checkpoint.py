"""The weights that an export starts from, as the command line names them."""

import hashlib
import shlex
from dataclasses import dataclass

import torch

from hero_rt.engines.manifest import sha256_of
from hero_rt.errors import UsageError
from hero_rt.models.hero import HeroModel, local_folder
from hero_rt.spec.config import HeroConfig

RANDOM = "random"


@dataclass(frozen=True)
class Checkpoint:
    """A folder, a bundled name or a Hub id, or `random` weights of a preset (tests, benchmarks)."""

    name: str
    preset: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.name == RANDOM) != (self.preset is not None):
            raise UsageError(
                f"checkpoint {self.name!r} with preset {self.preset!r}: a preset goes with the checkpoint 'random', "
                "and only with it (a real checkpoint knows its sizes)"
            )

    @classmethod
    def from_arguments(cls, arguments: str) -> "Checkpoint":
        """The inverse of `arguments`."""
        name, *options = shlex.split(arguments)
        values = dict(zip(options[::2], options[1::2], strict=True))
        return cls(name, values.get("--preset"), int(values.get("--seed", 0)))

    def load(self, dtype: torch.dtype = torch.float32, device: str = "cpu") -> HeroModel:
        """Parts are made when first asked for."""
        if self.preset is not None:
            return HeroModel.random(HeroConfig.from_preset(self.preset), self.seed, dtype, device)
        return HeroModel.from_pretrained(self.name, dtype, device)

    def digest(self) -> str:
        """SHA-256 of all that the weights are: the folder's files, or the preset and seed."""
        if self.preset is not None:
            return hashlib.sha256(repr(self).encode()).hexdigest()
        folder = local_folder(self.name)
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
        listing = "".join(f"{path.relative_to(folder)} {sha256_of(path)}\n" for path in files)
        return hashlib.sha256(listing.encode()).hexdigest()

    @property
    def arguments(self) -> str:
        """As the command line names it."""
        if self.preset is not None:
            return f"{RANDOM} --preset {self.preset} --seed {self.seed}"
        return shlex.quote(self.name)
