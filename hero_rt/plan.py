"""Resolves a request for one clip on one engine set. Everything that can be refused early is refused here."""

import logging
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Protocol

from hero_rt.engines.engine import EngineSet
from hero_rt.errors import UsageError
from hero_rt.request import OutpaintRequest, check_request
from hero_rt.sampling import copy_scheduler, make_scheduler, set_steps, step_arguments
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.canvas import Canvas
from hero_rt.spec.config import LATENT_CHANNELS, VAE_SCALE, HeroConfig
from hero_rt.spec.profile import Profile
from hero_rt.stages.flow import check_flow
from hero_rt.windows import Window, check_overlap, count_stream_windows, joint_windows

_log = logging.getLogger(__name__)


class ClipHeader(Protocol):
    """The properties of a clip that are known before a frame is decoded. num_frames is None if unknown."""

    width: int
    height: int
    num_frames: int | None
    pixel_aspect: Fraction


@dataclass(frozen=True)
class OutpaintPlan:
    """How one clip is outpainted.

    Attributes:
        request: what was asked.
        canvas: the frame to fill.
        profile: the shapes of the denoising step.
        num_frames: that are outpainted: the clip's, at most the request's max_frames. None if unknown.
        mode: joint or stream.
        scheduler: the diffusers scheduler whose config each window's scheduler gets.
    """

    request: OutpaintRequest
    canvas: Canvas
    profile: Profile
    num_frames: int | None
    mode: Literal["joint", "stream"]
    scheduler: Any = field(repr=False)

    @property
    def window(self) -> int:
        """Frames of a window."""
        return self.profile.frames

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The shape [4, h, w] of one frame's latents."""
        return LATENT_CHANNELS, self.canvas.model_height // VAE_SCALE, self.canvas.model_width // VAE_SCALE

    @property
    def num_windows(self) -> int | None:
        """The number of windows in sequence. A joint clip counts as one. None if the length is unknown."""
        if self.mode == "joint":
            return 1
        return self.num_frames and count_stream_windows(self.num_frames, self.window, self.request.overlap)

    def warnings(self, config: HeroConfig) -> list[str]:
        """Return a line for each property of the request that the checkpoint was not trained for."""
        found = []
        canvas, size = self.canvas, config.sample_size
        if config.max_ratio is not None and canvas.ratio > config.max_ratio:
            found.append(
                f"{canvas.ratio:.0%} of a side is generated, {config.name} was trained for {config.max_ratio:.0%}: "
                "expect blur and repetition far from the source"
            )
        if size is not None and max(canvas.width, canvas.height) > 2 * size:
            found.append(
                f"the frame is {canvas.width}x{canvas.height}, {config.name} was trained at {size} pixels a side: "
                "expect large areas without structure"
            )
        return found

    def check_latents_exist(self) -> None:
        """Raise UsageError in stream mode, where no tensor holds the latents of the whole clip."""
        if self.mode == "stream":
            raise UsageError("stream mode has no latents of a whole clip; use mode='joint'")

    def joint_windows(self, num_frames: int) -> list[Window]:
        """Return the windows that are denoised together over `num_frames`, which are at least one window."""
        return joint_windows(num_frames, self.window, self.request.overlap)

    def sampler(self) -> tuple[Any, dict[str, Any]]:
        """Return a new scheduler with its timesteps set, and further arguments of its `step`."""
        scheduler = copy_scheduler(self.scheduler, self.request.sampler)
        set_steps(scheduler, self.request.steps)
        return scheduler, step_arguments(scheduler, self.request.eta)


def resolve(request: OutpaintRequest, clip: ClipHeader, engines: EngineSet, scheduler: Any = None) -> OutpaintPlan:
    """Decide how `clip` is outpainted, and log the warnings of the plan. No frame is decoded, no engine is opened.

    Args:
        request: what to outpaint and how.
        clip: its size and length.
        engines: the engine set.
        scheduler: a diffusers scheduler in place of the checkpoint's.

    Raises:
        UsageError: the request does not fit the clip or the checkpoint.
        EngineError: the engine set has no engine for the canvas.
    """
    check_request(request)
    if not hasattr(clip, "num_frames"):
        raise UsageError(f"clip is a {type(clip).__name__}; open it first: hero_rt.video.open_video(clip)")
    canvas = request.frame.canvas(clip.width, clip.height, clip.pixel_aspect)
    check_flow(request.flow, clip.width, clip.height)
    num_frames = clip.num_frames
    if num_frames is not None and request.max_frames is not None:
        num_frames = min(num_frames, request.max_frames)
    profile = profile_of(canvas, engines, request.guided)
    check_overlap(request.overlap, profile.frames)
    scheduler = make_scheduler(engines.config.scheduler) if scheduler is None else scheduler
    plan = OutpaintPlan(request, canvas, profile, num_frames, _mode(request, num_frames), scheduler)
    _, arguments = plan.sampler()
    if request.eta and not arguments:
        name = request.sampler or type(scheduler).__name__
        raise UsageError(f"eta is {request.eta}: it has no effect with sampler {name}; leave it out, or take ddim")
    for submodule in SUBMODULES:
        engines.check(submodule, profile)
    for line in plan.warnings(engines.config):
        _log.warning(line)
    return plan


def profile_of(canvas: Canvas, engines: EngineSet, guided: bool) -> Profile:
    """Return the shapes of the denoising step on `canvas`."""
    return Profile(canvas.model_width, canvas.model_height, engines.config.num_frames, guided)


def _mode(request: OutpaintRequest, num_frames: int | None) -> Literal["joint", "stream"]:
    if request.mode != "auto":
        return request.mode
    return "joint" if num_frames is not None and num_frames <= request.max_joint_frames else "stream"
