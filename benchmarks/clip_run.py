"""One clip through an engine set, with its phases timed from outside: nothing is synchronised once a step."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.clip import pan_for
from benchmarks.timing import synchronize
from hero_rt.canvas import Canvas
from hero_rt.engines.engine import Engine, EngineSet
from hero_rt.outpainter import Outpainter
from hero_rt.profile import Profile

GUIDANCE_SCALE = 2.0  # of the guided profiles
SEED = 0
Mode = Literal["joint", "stream"]


@dataclass(frozen=True)
class ClipRun:
    """latents: final, [F, 4, h, w] on the CPU; frames: uint8 [F, H, W, 3]; phases in seconds."""

    latents: Tensor
    frames: np.ndarray
    prepare: float
    denoise: float
    decode: float


def run_arguments(canvas: Canvas, profile: Profile, steps: int) -> dict[str, Any]:
    """Of `Outpainter`, the same for every run that is compared."""
    return {
        "pad": (canvas.top, canvas.right, canvas.bottom, canvas.left),
        "num_inference_steps": steps,
        "guidance_scale": GUIDANCE_SCALE if profile.guided else 1.0,
        "generator": torch.Generator().manual_seed(SEED),
    }


def quiet_outpainter(engines: EngineSet) -> Outpainter:
    outpainter = Outpainter(engines)
    outpainter.set_progress_bar_config(disable=True)
    return outpainter


def run_clip(engines: EngineSet, source: np.ndarray, canvas: Canvas, profile: Profile, steps: int) -> ClipRun:
    """One seeded window. source: uint8 [F, h, w, 3]."""
    marked = _MarkedEngines(engines)
    latents: list[Tensor] = []
    denoised = 0.0

    def on_step(_outpainter: Outpainter, step: int, _timestep: Tensor, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        nonlocal denoised
        if step == steps - 1:
            synchronize(engines.device)
            denoised = time.perf_counter()
            latents[:] = [kwargs["latents"]]
        return kwargs

    started = time.perf_counter()
    arguments = run_arguments(canvas, profile, steps)
    frames = quiet_outpainter(marked)(source, mode="joint", callback_on_step_end=on_step, **arguments).frames
    finished = time.perf_counter()
    return ClipRun(
        latents[0].cpu(), frames, marked.first_step - started, denoised - marked.first_step, finished - denoised
    )


def outpaint_pan(engines: EngineSet, profile: Profile, num_frames: int, steps: int, mode: Mode) -> Iterator[np.ndarray]:
    """The benchmarks' clip, chunk by chunk as windows are finished; all at once in joint mode."""
    source, canvas = pan_for(profile, num_frames)
    outpainter, arguments = quiet_outpainter(engines), run_arguments(canvas, profile, steps)
    if mode == "joint":
        yield outpainter(source, mode="joint", **arguments).frames
    else:
        yield from outpainter.stream(source, **arguments)


class _MarkedEngines:
    """An engine set that notes when the denoising step first runs, the device idle by then."""

    def __init__(self, engines: EngineSet):
        self._engines = engines
        self.config, self.dtype, self.device = engines.config, engines.dtype, engines.device
        self.first_step = 0.0

    def open(self, submodule: str, profile: Profile) -> Engine:
        engine = self._engines.open(submodule, profile)
        return _MarkedStep(engine, self) if submodule == "unet_step" else engine

    def close(self) -> None:
        self._engines.close()

    def mark(self) -> None:
        if not self.first_step:
            synchronize(self.device)
            self.first_step = time.perf_counter()


class _MarkedStep:
    def __init__(self, engine: Engine, engines: _MarkedEngines):
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._engine, self._engines = engine, engines

    def bind(self, constants: Mapping[str, Tensor]) -> None:
        self._engine.bind(constants)

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        self._engines.mark()
        return self._engine(**inputs)

    def close(self) -> None:
        self._engine.close()
