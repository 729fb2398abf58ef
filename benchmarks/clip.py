"""What every suite outpaints: a camera panning over smooth noise, as long as asked for, made frame by frame."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from torch import Tensor

from benchmarks.timing import synchronize
from hero_rt.engines.engine import EngineSet
from hero_rt.outpainter import Outpainter
from hero_rt.request import Mode, OutpaintRequest, Padding
from hero_rt.session import Event, Prepared, StepDone
from hero_rt.spec.profile import Profile
from hero_rt.video import VideoSource

SPEED = 4  # pixels a frame
FRAME_RATE = Fraction(25)
GUIDANCE_SCALE = 2.0  # of the guided profiles


class Pan(VideoSource):
    """`num_frames` frames of `width` x `height`; the scene wraps round, so that any length costs the same memory."""

    def __init__(self, width: int, height: int, num_frames: int, seed: int = 0):
        self.width, self.height, self.num_frames = width, height, num_frames
        self.frame_rate = FRAME_RATE
        noise = np.random.default_rng(seed).normal(size=(height, 4 * width, 3)).astype(np.float32)
        scene = cv2.GaussianBlur(np.concatenate([noise, noise[:, :width]], axis=1), (0, 0), 6)
        self._scene = (128 + 48 * scene / scene.std()).clip(0, 255).astype(np.uint8)

    def frames(self) -> Iterator[np.ndarray]:
        for t in range(self.num_frames or 0):
            left = SPEED * t % (4 * self.width)
            yield np.ascontiguousarray(self._scene[:, left : left + self.width])

    def stack(self) -> np.ndarray:
        """uint8 [N, h, w, 3]."""
        return np.stack(list(self.frames()))


def pan_for(profile: Profile, num_frames: int, seed: int = 0) -> tuple[Pan, Padding]:
    """A clip for the middle three quarters of the profile's width, and what to generate around it (OPV 0.25)."""
    side = profile.width // 8
    return Pan(profile.width - 2 * side, profile.height, num_frames, seed), Padding(left=side, right=side)


def request_for(frame: Padding, profile: Profile, steps: int, mode: Mode = "joint", seed: int = 0) -> OutpaintRequest:
    """The same for every run that is compared."""
    scale = GUIDANCE_SCALE if profile.guided else 1.0
    return OutpaintRequest(frame=frame, steps=steps, guidance_scale=scale, mode=mode, seed=seed)


def outpaint_pan(engines: EngineSet, profile: Profile, num_frames: int, steps: int, mode: Mode) -> Iterator[np.ndarray]:
    """The benchmarks' clip, chunk by chunk as windows are finished; all at once in joint mode."""
    clip, frame = pan_for(profile, num_frames)
    session = Outpainter(engines).session(clip, request_for(frame, profile, steps, mode))
    yield from session.run(clip.frames())


@dataclass(frozen=True)
class ClipRun:
    """latents: final, [F, 4, h, w] on the CPU; frames: uint8 [F, H, W, 3]; phases in seconds."""

    latents: Tensor
    frames: np.ndarray
    prepare: float
    denoise: float
    decode: float


def run_clip(engines: EngineSet, clip: Pan, request: OutpaintRequest) -> ClipRun:
    """Run one window, its phases timed from outside: nothing is synchronised once a step."""
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
    frames = np.concatenate(list(Outpainter(engines).session(clip, request, on_event).run(clip.frames())))
    finished = time.perf_counter()
    prepared, denoised = at["Prepared"], at["StepDone"]
    return ClipRun(latents[0].cpu(), frames, prepared - started, denoised - prepared, finished - denoised)
