"""How one run is trained, as data.

The defaults are the paper's where it gives a figure: a constant rate of 1e-4 without warm-up, a batch of 16 (one window
on each of 16 devices), gradients accumulated over 16 batches. A field whose comment says "addition" is not the paper's.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Recipe(BaseModel):
    """One run of `hero-train outpainter`. A resumed run may change only `steps` and `decay_steps`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    videos: tuple[Path, ...]
    steps: int = Field(ge=1)  # optimiser steps in all
    size: int = Field(default=256, multiple_of=8, ge=32)  # pixels a side of a training window
    windows_per_step: int = Field(default=16, ge=1)  # on each device: the paper's accumulation
    timesteps_per_window: int = Field(default=1, ge=1)  # that share one pass of the RefNet and the flow encoder
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warmup_steps: int = Field(default=0, ge=0)  # addition
    decay_steps: int = Field(default=0, ge=0)  # addition: at the end, linearly to zero
    max_grad_norm: float = Field(default=1.0, gt=0)  # addition: gradients are clipped to this norm
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)  # addition: of the moving average that becomes the checkpoint
    semantic_dropout: float = Field(default=0.1, ge=0, le=1)  # of the CLIP references, for classifier-free guidance
    noise_offset: float = Field(default=0.0, ge=0)  # addition: standard deviation of the noise's smooth part
    known_weight: float = Field(default=1.0, ge=0, le=1)  # addition: of the loss where the frame is known
    hold_at_zero: tuple[str, ...] = ()  # parameters by shell pattern ("refnet.*.im3_alpha"), for ablations
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    compile: bool = False  # by torch.compile; minutes at the start, for a faster step
    workers: int = Field(default=0, ge=0)
    save_every: int = Field(default=500, ge=1)
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, constant, linear decay."""
        rising = min(1.0, (step + 1) / (self.warmup_steps + 1))
        falling = min(1.0, (self.steps - step) / (self.decay_steps + 1))
        return self.learning_rate * min(rising, falling)
