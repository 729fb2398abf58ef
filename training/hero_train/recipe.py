"""Defines the settings of training runs.

The defaults are the paper's where it gives a figure: a constant rate of 1e-4 without warm-up, a batch of 16 (one window
on each of 16 devices), gradients accumulated over 16 batches. A field that says "an addition" is not the paper's.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    import torch

WARMUP_STEPS = 100  # of small parts
DECAY_SHARE = 0.4  # share of steps with a falling rate


class ClipOptions(BaseModel, frozen=True):
    """Settings of clips that are made from photographs."""

    count: int = Field(1600, description="Number of clips; existing ones are kept.")
    size: int = Field(160, description="Pixels a side.")
    frames: int = Field(24, description="Frames a clip.")
    seed: int = Field(0, description="Of every random draw.")
    jobs: int = Field(1, ge=1, description="Processes.")


class _Recipe(BaseModel, extra="forbid", frozen=True):
    seed: int = Field(0, description="Of every random draw.")

    def generator(self, *place: int) -> "torch.Generator":
        """Return a generator that depends only on seed and place, so a resumed run repeats its draws."""
        import torch

        return torch.Generator().manual_seed(hash((self.seed, *place)) % 2**63)

    def changeable(self, step: int, before: Self) -> set[str]:
        """Return the fields that a run resumed after `step` may change, because no step so far depends on them."""
        raise NotImplementedError

    def changes_since(self, saved: dict[str, Any], step: int) -> str:
        """Return forbidden differences from the recipe of the first `step` steps, or ""."""
        before, now = type(self).model_validate(saved), self.model_dump(mode="json")
        old, free = before.model_dump(mode="json"), self.changeable(step, before)
        return "; ".join(f"{k} was {old[k]}, is {new}" for k, new in now.items() if new != old[k] and k not in free)


class Recipe(_Recipe):
    """One run of `hero-train outpainter`."""

    videos: tuple[Path, ...] = Field(description="A folder of videos; repeatable, with equal shares.")
    steps: int = Field(ge=1, description="Optimiser steps in all.")
    size: int = Field(256, multiple_of=8, ge=32, description="Pixels a side of a training window.")
    windows_per_step: int = Field(16, ge=1, description="Windows per step and device; the paper has 16 devices.")
    timesteps_per_window: int = Field(1, ge=1, description="Timesteps that share one RefNet and flow pass.")
    learning_rate: float = Field(1e-4, gt=0, description="The paper's, which is constant.")
    weight_decay: float = Field(1e-2, ge=0, description="Of AdamW.")
    warmup_steps: int = Field(0, ge=0, description="Steps over which the rate rises: an addition to the paper.")
    decay_steps: int = Field(0, ge=0, description="Steps at the end, over which the rate falls to zero: an addition.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm: an addition.")
    ema_decay: float = Field(0.9999, ge=0, lt=1, description="Of the average that is the checkpoint: an addition.")
    semantic_dropout: float = Field(0.1, ge=0, le=1, description="Share of windows without CLIP references.")
    noise_offset: float = Field(0.0, ge=0, description="Smooth noise against drifting colours: an addition.")
    known_weight: float = Field(1.0, ge=0, le=1, description="Loss weight of known regions: an addition.")
    hold_at_zero: tuple[str, ...] = Field((), description="Ablation: parameters held at zero, by shell pattern.")
    mixed_precision: Literal["no", "fp16", "bf16"] = Field("no", description="no, fp16 or bf16.")
    compile: bool = Field(False, description="torch.compile: minutes at the start, for a faster step.")
    workers: int = Field(0, ge=0, description="Processes that decode videos.")
    save_every: int = Field(500, ge=1, description="Steps between states to resume from.")

    def learning_rate_at(self, step: int) -> float:
        """Return the rate of a step: linear warm-up, constant, linear decay."""
        rising = min(1.0, (step + 1) / (self.warmup_steps + 1))
        falling = min(1.0, (self.steps - step) / (self.decay_steps + 1))
        return self.learning_rate * min(rising, falling)

    def average_weight_at(self, step: int) -> float:
        """Return the share of the newest weights in the moving average. It is larger in early steps."""
        return 1 - min(self.ema_decay, (step + 1) / (step + 10))

    def changeable(self, step: int, before: Self) -> set[str]:
        return {"steps", "decay_steps", "save_every", "workers"}


class SmallRecipe(_Recipe):
    """Settings of the training of a small part."""

    steps: int = Field(ge=1, description="Steps of pairs of crops.")
    batch: int = Field(12, ge=1, description="Crops a step.")
    learning_rate: float = Field(1e-3, gt=0, description="Falls to a hundredth over the last two fifths.")
    save_every: int = Field(500, ge=1, description="Steps between states to resume from, in OUT/state.")

    def learning_rate_at(self, step: int) -> float:
        """Return the rate of a step: linear warm-up, constant, then a cosine to a hundredth over the last two fifths.

        While it is constant, a run may be resumed with more or fewer steps.
        """
        rising = min(1.0, (step + 1) / WARMUP_STEPS)
        falling = max(0.0, (step - self.first_falling) / (self.steps - self.first_falling))
        return self.learning_rate * rising * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * falling)))

    @property
    def first_falling(self) -> int:
        """Return the step from which the rate falls."""
        return math.floor((1 - DECAY_SHARE) * self.steps)

    def average_weight_at(self, step: int) -> float:
        """Return the share of the newest weights in the moving average over the last few hundred steps."""
        return max(0.005, 1 / (step + 1))

    def changeable(self, step: int, before: Self) -> set[str]:
        constant = step <= min(before.first_falling, self.first_falling)  # the rate of all steps
        return {"save_every", "decode_noise"} | ({"steps"} if constant else set())


class EncoderRecipe(SmallRecipe):
    steps: int = Field(250, ge=1, description="Steps per encoder, each of BATCH pairs of canvas and whole frame.")
    batch: int = Field(48, ge=1, description="Pairs a step.")
    size: int = Field(128, ge=32, description="Pixels a side of a training frame.")
    save_every: int = Field(50, ge=1, description="Steps between states to resume from, in OUT/state.")


class CropRecipe(SmallRecipe):
    """Settings of the training of a part on crops of frames in memory."""

    crop: int = Field(64, multiple_of=8, ge=32, description="Pixels a side of a crop.")
    bf16: bool = Field(False, description="BF16 autocast: faster on a CPU with AVX512-BF16.")
    pairs: int = Field(3000, ge=1, description="Pairs of successive frames in memory.")
    size: int = Field(160, ge=32, description="Pixels a side of a kept frame.")


class AutoencoderRecipe(CropRecipe):
    steps: int = Field(20_000, ge=1, description="Steps of pairs of crops.")
    batch: int = Field(16, ge=1, description="Crops a step.")


class DecoderRecipe(CropRecipe):
    steps: int = Field(4000, ge=1, description="Steps of pairs of crops.")
    decode_noise: float = Field(0.22, ge=0, description="Noise on decoded latents where the scene moves.")


class TextureRecipe(DecoderRecipe):
    steps: int = Field(3000, ge=1, description="Steps; half of the crops are encoded, half sampled.")
    windows: int = Field(200, ge=1, description="Windows that are outpainted first, for sampled crops.")
    window_size: int = Field(128, description="Pixels a side of these.")
