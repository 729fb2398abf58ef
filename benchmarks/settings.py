"""Defines the options of a run. Their defaults depend on the device."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import Profile

DEFAULTS = {
    "cpu": {"preset": "hero-tiny", "dtype": "fp32", "size": ("128x128",)},
    "cuda": {"preset": "hero-sd15", "dtype": "fp16", "size": ("256x256", "512x512")},
}
_BY_DEVICE: Any = None


class Settings(BaseModel, frozen=True, extra="forbid"):
    """The options of `run`. An empty field takes the default of the device."""

    device: str = Field(_BY_DEVICE, description="cpu, cuda or cuda:N; default: the GPU, if any.")
    preset: str = Field(_BY_DEVICE, description="hero-tiny (default on a CPU) or hero-sd15 (on a GPU).")
    dtype: Literal["fp32", "fp16"] = Field(_BY_DEVICE, description="fp32 (default on a CPU) or fp16 (on a GPU).")
    size: tuple[str, ...] = Field(_BY_DEVICE, description="WIDTHxHEIGHT; repeatable. 128x128; 256, 512 on a GPU.")
    guidance: Literal["on", "off", "both"] = Field("both", description="Classifier-free guidance.")
    steps: tuple[int, ...] = Field((25, 50), description="Denoising steps of end-to-end; repeatable.")
    frames: tuple[int, ...] = Field((16, 64, 256, 1024), description="Clip lengths of long-video; repeatable.")
    repeats: int | None = Field(None, ge=1, description="Timed repeats; default: the suite's.")
    only: tuple[str, ...] = Field((), description="Contenders beside both baselines (aoti, ...); repeatable. [all]")
    tune: bool = Field(False, description="kernels: time every configuration of the fused kernel too.")
    cache: Path = Field(Path("build/benchmarks"), description="Folder in which built engines are kept.")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_device(cls, asked: dict[str, Any]) -> dict[str, Any]:
        import torch

        device = asked.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        kind = device.partition(":")[0]
        if kind not in DEFAULTS:
            raise ValueError(f"--device {device!r} is not cpu, cuda or cuda:N")
        for text in asked.get("size", ()):
            if [part.isdigit() for part in text.split("x")] != [True, True]:
                raise ValueError(f"--size {text!r} is not WIDTHxHEIGHT, for instance 256x256")
        return {"device": device} | DEFAULTS[kind] | asked

    @property
    def config(self) -> HeroConfig:
        return HeroConfig.from_preset(self.preset)

    def profiles(self) -> list[Profile]:
        """Return the profile of every canvas: without guidance, with it, or both."""
        guided = {"on": (True,), "off": (False,), "both": (False, True)}[self.guidance]
        sides = [map(int, text.split("x")) for text in self.size]
        return [Profile(width, height, self.config.num_frames, on) for width, height in sides for on in guided]

    def first_profile(self) -> Profile:
        """Return the first canvas without guidance."""
        return replace(self.profiles()[0], guided=False)
