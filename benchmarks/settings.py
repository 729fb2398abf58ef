"""What a run is asked for. What is not asked for follows from the device."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hero_rt.engines.manifest import DTYPES
from hero_rt.errors import UsageError
from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import Profile

DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"preset": "hero-tiny", "dtype": "fp32", "sizes": ((128, 128),)},
    "cuda": {"preset": "hero-sd15", "dtype": "fp16", "sizes": ((256, 256), (512, 512))},
}


class Settings(BaseModel):
    """`sizes` are canvases, width and height in pixels; `only` names the contenders beside the two baselines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    preset: str
    dtype: Literal["fp32", "fp16"]
    sizes: tuple[tuple[int, int], ...]
    guidance: tuple[bool, ...] = (False, True)
    steps: tuple[int, ...] = (25, 50)
    frames: tuple[int, ...] = (16, 64, 256, 1024)  # of long-video
    repeats: int | None = None  # None: what the suite does by itself
    only: tuple[str, ...] | None = None
    tune: bool = False
    cache: Path = Path("build/benchmarks")

    @classmethod
    def for_device(cls, device: str, **asked: Any) -> "Settings":
        """The device's defaults under what was asked for; None asks for nothing. Raises UsageError."""
        kind = device.partition(":")[0]
        if kind not in DEFAULTS:
            raise UsageError(f"device {device!r} is not cpu, cuda or cuda:N")
        if asked.get("dtype") not in (None, *DTYPES):
            raise UsageError(f"dtype {asked['dtype']!r} is not one of {', '.join(DTYPES)}")
        chosen = DEFAULTS[kind] | {k: v for k, v in asked.items() if v is not None}
        return cls(device=device, **chosen)

    @property
    def config(self) -> HeroConfig:
        return HeroConfig.from_preset(self.preset)

    def profiles(self) -> list[Profile]:
        return [
            Profile(width, height, self.config.num_frames, guided)
            for width, height in self.sizes
            for guided in self.guidance
        ]
