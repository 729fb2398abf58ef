"""The application's entry: a clip and the frame it should fill, in; the outpainted clip, out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from hero_rt.canvas import Canvas, check_feather
from hero_rt.denoise import JointWindows, denoise
from hero_rt.engines import EngineSet, open_engines
from hero_rt.errors import EngineError, UsageError
from hero_rt.flow import FlowMethod, optical_flow
from hero_rt.models.config import LATENT_CHANNELS, HeroConfig
from hero_rt.noise import Purpose, StepNoise, frame_noise
from hero_rt.prepare import PreparedWindow, prepare_window, run
from hero_rt.profile import Profile
from hero_rt.sampling import make_scheduler, set_steps, step_arguments
from hero_rt.texture import with_texture_noise
from hero_rt.video import VideoSource, open_video
from hero_rt.windows import joint_windows, pad_to_window, stream_windows

Video = str | Path | np.ndarray | VideoSource
Mode = Literal["auto", "joint", "stream"]
OutputType = Literal["np", "pt", "pil", "latent"]
StepEnd = Callable[["Outpainter", int, Tensor, dict[str, Tensor]], dict[str, Tensor]]

MAX_JOINT_FRAMES = 64
OVERLAP = 4  # frames that joint windows share, and finished frames that a stream window starts from


@dataclass(frozen=True)
class OutpaintOutput:
    """frames: uint8 [N, H, W, 3] RGB ("np"), float [N, 3, H, W] in [0, 1] ("pt"), PIL images, or latents."""

    frames: Any
    frame_rate: Fraction
    canvas: Canvas


class Outpainter:
    """Outpaints clips with any engine set: the PyTorch model or a folder of engines.

    >>> outpainter = Outpainter.from_engines("engines")
    >>> result = outpainter("clip.mp4", pad=(0, 64, 0, 64), generator=torch.Generator().manual_seed(0))
    >>> result.frames.shape
    (16, 256, 256, 3)
    """

    def __init__(self, engines: EngineSet):
        self.engines = engines
        self._progress_bar: dict[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls, checkpoint: str | Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> "Outpainter":
        """The PyTorch model of a checkpoint folder or Hub id. Any canvas size."""
        from hero_rt.engines.eager import EagerEngines  # the networks' libraries take seconds, engines need none
        from hero_rt.models.hero import HeroModel

        return cls(EagerEngines(HeroModel.from_pretrained(checkpoint, dtype, device)))

    @classmethod
    def from_engines(cls, folder: str | Path, device: str | None = None) -> "Outpainter":
        """A folder written by `hero-export build-engines`; canvas sizes are those of its profiles.

        Raises EngineError where the folder does not match its manifest or this machine.
        """
        return cls(open_engines(folder, device))

    @property
    def config(self) -> HeroConfig:
        return self.engines.config

    def close(self) -> None:
        self.engines.close()

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Keyword arguments of tqdm, as in diffusers: `disable=True` silences it."""
        self._progress_bar = kwargs

    def profile(self, canvas: Canvas, guidance_scale: float) -> Profile:
        """The shapes that `canvas` needs; guidance_scale 1 is without guidance."""
        return Profile(canvas.model_width, canvas.model_height, self.config.num_frames, guidance_scale != 1)

    def prepare(
        self,
        source: np.ndarray,
        canvas: Canvas,
        guidance_scale: float = 1.0,
        flow: np.ndarray | None = None,
        finished: np.ndarray | None = None,
    ) -> PreparedWindow:
        """All that is constant for one window, computed once.

        source: uint8 [F, h, w, 3], F the model's window; flow: its optical flow in pixels, estimated where None;
        finished: uint8 [P, H, W, 3], outpainted frames that stand for the first P.
        """
        flow = optical_flow(source) if flow is None else flow
        return prepare_window(self.engines, self.profile(canvas, guidance_scale), canvas, source, flow, finished)

    def __call__(
        self,
        video: Video,
        *,
        pad: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
        anchor: str = "center",
        task: str | None = None,
        ratio: float | None = None,
        num_inference_steps: int = 25,
        guidance_scale: float = 1.0,
        sampler: str | None = None,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        mode: Mode = "auto",
        feather: int = 8,
        flow_method: FlowMethod = "dis",
        output_type: OutputType = "np",
        callback_on_step_end: StepEnd | None = None,
    ) -> OutpaintOutput:
        """Outpaint a clip that is held in memory whole.

        video: a path, a folder of images or uint8 [N, h, w, 3]. The frame to fill is one of `pad` (top, right,
        bottom, left), `size` (width, height) with `anchor`, or `task` (OPC, OPV, OPH) with `ratio`.
        mode: "joint" denoises overlapping windows together (memory grows by one prepared window every 12 frames),
        "stream" one after the other; "auto" is joint up to 64 frames.
        flow_method: "dis", or "raft" where torchvision is installed.
        generator: gives the seed (its `initial_seed()`); the seed is 0 without one.
        latents: initial noise [N', 4, h, w], N' = max(N, window); joint mode only.
        callback_on_step_end(outpainter, step, timestep, {"latents": ...}) may return a dict with new latents.
        Raises UsageError, before any work, VideoError or EngineError.
        """
        if mode not in get_args(Mode):
            raise UsageError(f"mode {mode!r} is not one of {', '.join(get_args(Mode))}")
        if output_type not in get_args(OutputType):
            raise UsageError(f"output_type {output_type!r} is not one of {', '.join(get_args(OutputType))}")
        with open_video(video) as source:
            canvas = choose_canvas(source.width, source.height, pad, size, anchor, task, ratio)
            settings = _Settings(
                canvas,
                num_inference_steps,
                guidance_scale,
                sampler,
                eta,
                0 if generator is None else generator.initial_seed(),
                feather,
                flow_method,
                callback_on_step_end,
            )
            self._check(settings)
            frames = np.stack(list(source.frames()))
            if mode == "auto":
                mode = "joint" if len(frames) <= MAX_JOINT_FRAMES else "stream"
            if mode == "joint":
                return OutpaintOutput(self._joint(frames, settings, latents, output_type), source.frame_rate, canvas)
            if latents is not None or output_type == "latent":
                raise UsageError("stream mode has no latents of a whole clip; use mode='joint'")
            chunks = list(self._stream(iter(frames), settings))
            return OutpaintOutput(_as_type(np.concatenate(chunks), output_type), source.frame_rate, canvas)

    def stream(
        self,
        video: Video,
        *,
        pad: tuple[int, int, int, int] | None = None,
        size: tuple[int, int] | None = None,
        anchor: str = "center",
        task: str | None = None,
        ratio: float | None = None,
        num_inference_steps: int = 25,
        guidance_scale: float = 1.0,
        sampler: str | None = None,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        feather: int = 8,
        flow_method: FlowMethod = "dis",
        callback_on_step_end: StepEnd | None = None,
    ) -> Iterator[np.ndarray]:
        """Outpaint a clip of any length in flat memory: yields uint8 [n, H, W, 3] as each window is finished.

        Arguments as in `__call__`. Frames are decoded as they are needed; each window after the first starts
        from the last 4 finished frames.
        """
        with open_video(video) as source:
            canvas = choose_canvas(source.width, source.height, pad, size, anchor, task, ratio)
            settings = _Settings(
                canvas,
                num_inference_steps,
                guidance_scale,
                sampler,
                eta,
                0 if generator is None else generator.initial_seed(),
                feather,
                flow_method,
                callback_on_step_end,
            )
            self._check(settings)
            yield from self._stream(source.frames(), settings)

    def _joint(self, frames: np.ndarray, settings: "_Settings", latents: Tensor | None, output_type: OutputType) -> Any:
        size = self.config.num_frames
        num_frames = len(frames)
        frames = pad_to_window(frames, size)
        whole = range(len(frames))
        noise = self._initial_noise(whole, settings, latents)
        windows = joint_windows(len(frames), size, OVERLAP)
        flow = optical_flow(frames, settings.flow_method)
        prepared = [
            self.prepare(
                frames[w.start : w.stop], settings.canvas, settings.guidance_scale, flow[w.start : w.stop]
            ).constants
            for w in windows
        ]
        unet = self.engines.open("unet_step", self.profile(settings.canvas, settings.guidance_scale))
        predict = JointWindows(unet, prepared, windows, settings.guidance_scale)
        clean = self._denoise(predict, noise, settings, whole)
        if output_type == "latent":
            return clean[:num_frames]
        return _as_type(self._decode(clean, frames, flow, settings, whole)[:num_frames], output_type)

    def _stream(self, frames: Iterator[np.ndarray], settings: "_Settings") -> Iterator[np.ndarray]:
        size = self.config.num_frames
        unet = self.engines.open("unet_step", self.profile(settings.canvas, settings.guidance_scale))
        whole = joint_windows(size, size, OVERLAP)
        finished: np.ndarray | None = None
        start = 0
        for window in stream_windows(frames, size, OVERLAP):
            flow = optical_flow(window.frames, settings.flow_method)
            prepared = self.prepare(window.frames, settings.canvas, settings.guidance_scale, flow, finished)
            predict = JointWindows(unet, [prepared.constants], whole, settings.guidance_scale)
            places = range(start, start + size)
            clean = self._denoise(predict, self._initial_noise(places, settings), settings, places)
            done = self._decode(clean, window.frames, flow, settings, places)
            start += window.carried + window.valid - OVERLAP
            if finished is not None:
                done[: len(finished)] = finished
            new = done[window.carried : window.carried + window.valid]
            finished = done[: window.carried + window.valid][-OVERLAP:]
            yield new

    def _check(self, settings: "_Settings") -> None:
        """Refuse now what would otherwise fail when the work is half or wholly done."""
        check_feather(settings.feather)
        self._sampler(settings)

    def _sampler(self, settings: "_Settings") -> tuple[Any, dict[str, Any]]:
        """A scheduler with its timesteps, and the arguments of its steps."""
        scheduler = make_scheduler(self.config.scheduler, settings.sampler)
        set_steps(scheduler, settings.num_inference_steps)
        return scheduler, step_arguments(scheduler, settings.eta)

    def _initial_noise(self, frames: range, settings: "_Settings", latents: Tensor | None = None) -> Tensor:
        canvas = settings.canvas
        shape = (len(frames), LATENT_CHANNELS, canvas.model_height // 8, canvas.model_width // 8)
        if latents is None:
            return frame_noise(settings.seed, Purpose.INITIAL, frames, shape[1:]).to(self.engines.device)
        if tuple(latents.shape) != shape:
            raise UsageError(f"latents have shape {list(latents.shape)}, this clip takes {list(shape)}")
        return latents.to(self.engines.device, torch.float32)

    def _denoise(self, predict: JointWindows, noise: Tensor, settings: "_Settings", frames: range) -> Tensor:
        scheduler, extra = self._sampler(settings)
        with tqdm(total=len(scheduler.timesteps), **({"desc": "denoise"} | self._progress_bar)) as bar:

            def on_step(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
                bar.update()
                if settings.callback_on_step_end is None:
                    return latents
                return settings.callback_on_step_end(self, step, timestep, {"latents": latents}).get("latents", latents)

            step_noise = StepNoise(settings.seed, frames, len(scheduler.timesteps))
            return denoise(predict, noise * scheduler.init_noise_sigma, scheduler, extra, step_noise, on_step)

    def _decode(
        self, latents: Tensor, source: np.ndarray, flow: np.ndarray, settings: "_Settings", frames: range
    ) -> np.ndarray:
        """Latents [N, 4, h, w], N at least a window, to composited frames uint8 [N, H, W, 3]."""
        latents = with_texture_noise(latents, flow, self.config.decode_noise, settings.seed, frames)
        size, canvas = self.config.num_frames, settings.canvas
        profile = self.profile(canvas, guidance_scale=1)
        out = np.empty((len(source), canvas.height, canvas.width, 3), np.uint8)
        for first in range(0, len(source), size):
            start = min(first, len(source) - size)  # the last chunk shifts back: the decoder takes whole windows
            chunk = slice(start, start + size)
            decoded = run(self.engines, "vae_decoder", profile, latents=latents[chunk])["frames"]
            if not decoded.isfinite().all():
                raise EngineError(
                    f"vae_decoder {profile} returned values that are not finite: an FP16 overflow or broken weights; "
                    "run FP32 engines to tell which"
                )
            out[chunk] = canvas.composite(decoded, source[chunk], settings.feather)
        return out


@dataclass(frozen=True)
class _Settings:
    """One call's arguments on their way through the two modes."""

    canvas: Canvas
    num_inference_steps: int
    guidance_scale: float
    sampler: str | None
    eta: float
    seed: int
    feather: int
    flow_method: FlowMethod
    callback_on_step_end: StepEnd | None


def choose_canvas(
    width: int,
    height: int,
    pad: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    anchor: str = "center",
    task: str | None = None,
    ratio: float | None = None,
) -> Canvas:
    """The canvas that one of `pad`, `size` and `task` + `ratio` asks for. Raises UsageError on none or several."""
    if sum(choice is not None for choice in (pad, size, task)) != 1:
        raise UsageError("say what to fill with exactly one of pad, size and task (with ratio)")
    if pad is not None:
        return Canvas.from_padding(width, height, pad)
    if size is not None:
        return Canvas.from_size(width, height, *size, anchor=anchor)
    if task is None or ratio is None:
        raise UsageError(f"task {task} needs a ratio: the generated fraction of the target, for instance 0.25")
    return Canvas.from_task(width, height, task, ratio)


def _as_type(frames: np.ndarray, output_type: OutputType) -> Any:
    if output_type == "np":
        return frames
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in frames]
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
