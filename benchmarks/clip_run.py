"""One clip through an engine set, with its phases timed from outside: nothing is synchronised once a step."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmarks.clip import Pan, pan_for
from benchmarks.timing import synchronize
from hero_rt.engines.engine import EngineSet
from hero_rt.outpainter import Outpainter
from hero_rt.request import Mode, OutpaintRequest, Padding
from hero_rt.session import Event, Prepared, StepDone
from hero_rt.spec.profile import Profile

GUIDANCE_SCALE = 2.0  # of the guided profiles
SEED = 0


@dataclass(frozen=True)
class ClipRun:
    """latents: final, [F, 4, h, w] on the CPU; frames: uint8 [F, H, W, 3]; phases in seconds."""

    latents: Tensor
    frames: np.ndarray
    prepare: float
    denoise: float
    decode: float


def request_for(frame: Padding, profile: Profile, steps: int, mode: Mode = "joint") -> OutpaintRequest:
    """The same for every run that is compared."""
    scale = GUIDANCE_SCALE if profile.guided else 1.0
    return OutpaintRequest(frame=frame, steps=steps, guidance_scale=scale, seed=SEED, mode=mode)


def run_clip(engines: EngineSet, clip: Pan, request: OutpaintRequest) -> ClipRun:
    """One seeded window."""
    at: dict[str, float] = {}
    latents: list[Tensor] = []

    def on_event(event: Event) -> None:
        last = isinstance(event, StepDone) and event.step == request.steps - 1
        if isinstance(event, Prepared) or last:
            synchronize(engines.device)
            at[type(event).__name__] = time.perf_counter()
        if isinstance(event, StepDone) and last:
            latents.append(event.latents)

    started = time.perf_counter()
    session = Outpainter(engines).session(clip, request, on_event)
    frames = np.concatenate(list(session.run(clip.frames())))
    finished = time.perf_counter()
    prepared, denoised = at["Prepared"], at["StepDone"]
    return ClipRun(latents[0].cpu(), frames, prepared - started, denoised - prepared, finished - denoised)


def outpaint_pan(engines: EngineSet, profile: Profile, num_frames: int, steps: int, mode: Mode) -> Iterator[np.ndarray]:
    """The benchmarks' clip, chunk by chunk as windows are finished; all at once in joint mode."""
    clip, frame = pan_for(profile, num_frames)
    session = Outpainter(engines).session(clip, request_for(frame, profile, steps, mode))
    yield from session.run(clip.frames())
