"""The class that applications call: it takes a clip and a request, and returns the outpainted clip."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from hero_rt.closable import Closable
from hero_rt.engines import EngineSet, open_engines
from hero_rt.errors import UsageError
from hero_rt.output import OutpaintOutput, OutpaintStream, OutputType, as_type
from hero_rt.pipeline import PipelineMethods, StepEnd
from hero_rt.plan import OutpaintPlan, profile_of, resolve
from hero_rt.progress import ProgressBar
from hero_rt.request import Anchor, FlowMethod, Mode, OutpaintRequest, TaskName
from hero_rt.schedule import Schedule
from hero_rt.session import OnEvent, OutpaintSession
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.canvas import Canvas
from hero_rt.video import Video, VideoSource, open_video


class Outpainter(Closable, PipelineMethods):
    """Outpaints clips with any engine set: the PyTorch model or a folder of engines. Threads may share it.

    With several engine sets (one checkpoint on several devices) the windows of a joint clip run in parallel.

    >>> with Outpainter.from_engines("engines") as outpainter:
    ...     result = outpainter("clip.mp4", pad=(0, 64, 0, 64), seed=0)
    >>> result.frames.shape
    (16, 256, 256, 3)
    """

    def __init__(self, *engine_sets: EngineSet):
        super().__init__()
        self.schedule = Schedule(engine_sets)
        self.engines = engine_sets[0]

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        **hub: Any,
    ) -> "Outpainter":
        """Load the PyTorch model of a checkpoint: a folder, "hero-tiny" or a Hub id. It takes any canvas size.

        device: default: the GPU if there is one, else the CPU. hub: revision, token, cache_dir, local_files_only and
        variant, as in diffusers. Raises UsageError if the checkpoint is missing or incomplete.
        """
        from hero_rt.engines.eager import EagerEngines  # the networks' libraries take seconds, engines need none
        from hero_rt.models.hero import HeroModel

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(EagerEngines(HeroModel.from_pretrained(checkpoint, dtype, device, **hub)))

    @classmethod
    def from_engines(
        cls, folder: str | Path, device: str | None = None, devices: Sequence[str] | None = None
    ) -> "Outpainter":
        """Open a folder that `hero-export build-engines` wrote. Its profiles decide which canvas sizes it takes.

        device: "cpu", "cuda" or "cuda:1"; default: what the format and this machine allow. devices: open one engine set
        on each, for instance ["cuda:0", "cuda:1"]. Raises EngineError if the folder does not match its manifest or this
        machine.
        """
        return cls(*(open_engines(folder, name) for name in devices or (device,)))

    def close(self) -> None:
        """Close every engine set. Using the outpainter afterwards raises EngineError."""
        for device in self.schedule.devices:
            device.engines.close()

    def warm_up(self, canvas: Canvas, guided: bool = False) -> None:
        """Open the engines for `canvas`, allocate their buffers and capture their graphs. The first call is then fast.

        guided: whether later calls use classifier-free guidance. Raises EngineError if there is no engine.
        """
        for device in self.schedule.devices:
            profile = profile_of(canvas, device.engines, guided)
            for submodule in SUBMODULES:
                device.engines.open(submodule, profile).warm_up()

    def plan(self, clip: VideoSource, request: OutpaintRequest) -> OutpaintPlan:
        """Decide how a clip is outpainted, before a frame is decoded. Raises as `hero_rt.plan.resolve`."""
        return resolve(request, clip, self.engines, self.scheduler)

    def session(
        self, clip: VideoSource, request: OutpaintRequest, on_event: OnEvent = lambda event: None, **arguments: Any
    ) -> OutpaintSession:
        """Open a session for a clip of this size; its frames are not read. Raises as `hero_rt.plan.resolve`.

        on_event: called after each event, in the thread of the session. arguments: `on_step` and `latents`.
        """
        return OutpaintSession(self.plan(clip, request), self.schedule, on_event, **arguments)

    def __call__(
        self,
        video: Video,
        request: OutpaintRequest | None = None,
        *,
        pad: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
        aspect: str | None = None,
        anchor: Anchor | None = None,
        task: TaskName | None = None,
        ratio: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        eta: float | None = None,
        seed: int | None = None,
        mode: Mode | None = None,
        overlap: int | None = None,
        max_joint_frames: int | None = None,
        max_frames: int | None = None,
        feather: int | None = None,
        flow: FlowMethod | None = None,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        output_type: OutputType = "uint8",
        callback_on_step_end: StepEnd | None = None,
        on_event: OnEvent = lambda event: None,
    ) -> OutpaintOutput:
        """Outpaint a clip whose result fits in memory.

        Say the frame to fill with exactly one of `pad` (top, right, bottom, left), `size` (width, height), `aspect`
        ("16:9") and `task` (OPC, OPV, OPH) with `ratio`. `anchor` goes with `size` and `aspect`. The other keywords are
        fields of `OutpaintRequest`, where their meanings and defaults stand. They replace the values of `request`.

        Args:
            video: a path, a folder of images, frames in memory (see `hero_rt.video.to_frames`), or an open source.
            generator: gives the seed (its `initial_seed()`), in place of `seed`.
            latents: initial noise [N', 4, h, w], N' = max(N, window); joint mode only.
            callback_on_step_end: called with (outpainter, step, timestep, {"latents": tensor}), as in diffusers. It
                returns None, or a dict with other latents of the same shape, dtype and device.
            on_event: called with each event of the session: `Prepared`, `StepDone`, `WindowFinished`.

        Raises UsageError or EngineError before a frame is decoded, and VideoError if the clip cannot be read.
        """
        request = OutpaintRequest.from_call(request, locals())
        if output_type not in get_args(OutputType):
            raise UsageError(f"output_type {output_type!r} is not one of {', '.join(get_args(OutputType))}")
        with open_video(video, max_frames=request.max_frames) as source:
            on_step = self._on_step(callback_on_step_end)
            session = self.session(
                source, request, ProgressBar(self._progress_bar, on_event), on_step=on_step, latents=latents
            )
            if output_type == "latent":
                frames: Any = session.run_to_latents(source.frames())
            else:
                frames = as_type(np.concatenate(list(session.run(source.frames()))), output_type)
        return OutpaintOutput(frames, source.frame_rate, session.plan.canvas, source.pixel_aspect, source.audio_file)

    def stream(
        self,
        video: Video,
        request: OutpaintRequest | None = None,
        *,
        pad: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
        aspect: str | None = None,
        anchor: Anchor | None = None,
        task: TaskName | None = None,
        ratio: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        eta: float | None = None,
        seed: int | None = None,
        overlap: int | None = None,
        max_frames: int | None = None,
        feather: int | None = None,
        flow: FlowMethod | None = None,
        generator: torch.Generator | None = None,
        callback_on_step_end: StepEnd | None = None,
        on_event: OnEvent = lambda event: None,
    ) -> OutpaintStream:
        """Outpaint a clip of any length, window by window, in memory that does not grow.

        Yields uint8 [n, H, W, 3] for each window; the stream can be saved as a video. Frames are decoded when they are
        needed. Each window after the first starts from the last finished frames. The clip is closed at the end of the
        stream, or by its `close`. Arguments and errors are those of `__call__`; bad input is refused at once, not at
        the first `next()`.
        """
        request = OutpaintRequest.from_call(request, locals() | {"mode": "stream"})
        with ExitStack() as stack:
            source = stack.enter_context(open_video(video, max_frames=request.max_frames))
            session = self.session(
                source, request, ProgressBar(self._progress_bar, on_event), on_step=self._on_step(callback_on_step_end)
            )
            stack.pop_all()  # the stream closes it
            return OutpaintStream(session, source)
