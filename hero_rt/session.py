"""Outpaints one clip: the caller pushes source frames and gets finished frames."""

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from torch import Tensor

from hero_rt.engines.engine import Binding, Engine
from hero_rt.errors import Cancelled, UsageError
from hero_rt.noise import Purpose, StepNoise, frame_noise
from hero_rt.plan import OutpaintPlan
from hero_rt.sampling import guide
from hero_rt.schedule import Device, Schedule
from hero_rt.spec.boundary import TensorSpec
from hero_rt.spec.canvas import check_frames
from hero_rt.stages.decode import decode_window
from hero_rt.stages.denoise import Predict, denoise
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import prepare_window
from hero_rt.stages.texture import with_texture_noise
from hero_rt.windows import Window, fuse, fusion_weights, pad_to_window


@dataclass(frozen=True)
class _WindowEvent:
    window: int
    num_windows: int | None


@dataclass(frozen=True)
class Prepared(_WindowEvent):
    """Reports that everything that is constant in a window is computed.

    Attributes:
        window: its number, from 0.
        num_windows: of the clip; None if its length is unknown. A joint clip is one window.
        steps: the number of steps that follow. Some samplers take more than the request says.
    """

    steps: int


@dataclass(frozen=True)
class StepDone(_WindowEvent):
    """Reports that a denoising step is done.

    Attributes:
        window: as of `Prepared`.
        num_windows: as of `Prepared`.
        steps: as of `Prepared`.
        step: number of the step, from 0.
        timestep: of the sampler, a tensor of one value.
        latents: [N, 4, h, w] FP32 on the device of the session.
    """

    steps: int
    step: int
    timestep: Tensor
    latents: Tensor = field(repr=False)


@dataclass(frozen=True)
class WindowFinished(_WindowEvent):
    """Reports that a window is finished.

    Attributes:
        window: as of `Prepared`.
        num_windows: as of `Prepared`.
        frames: uint8 [n, H, W, 3], which `push` or `finish` is about to return.
    """

    frames: np.ndarray = field(repr=False)


Event = Prepared | StepDone | WindowFinished
OnEvent = Callable[[Event], object]
OnStep = Callable[[StepDone], Tensor | None]


class OutpaintSession:
    """Outpaints one clip. A file, a webcam and a socket use the same object.

    In stream mode `push` returns frames when a window is finished. In joint mode `finish` returns all frames. Sessions
    of one schedule may run in different threads. One thread at a time uses a session; only `cancel` may be called from
    another thread. `Outpainter.session` makes one. A session takes the request's `max_frames` and ignores frames after
    them.

    Args:
        plan: how the clip is outpainted.
        schedule: the devices.
        on_event: called after each event, in the thread of the session. Its result is ignored.
        on_step: called after each step. It may return None, or other latents of the same shape, dtype and device for
            the next step.
        latents: initial noise [N', 4, h, w], N' = max(N, window); joint mode only.

    Raises:
        UsageError: `latents` do not fit the plan.
    """

    def __init__(
        self,
        plan: OutpaintPlan,
        schedule: Schedule,
        on_event: OnEvent = lambda event: None,
        on_step: OnStep = lambda step: None,
        latents: Tensor | None = None,
    ):
        self.plan = plan
        self._schedule, self._on_event, self._on_step = schedule, on_event, on_step
        self._latents = latents
        self._cancelled = threading.Event()
        self._closed = False
        self._window = 0  # number of the next one
        self._held: list[np.ndarray] = []  # source frames of the next window; the first were in the window before
        self._first = 0  # position in the clip of the first held frame
        self._finished: np.ndarray | None = None  # the held frames that are outpainted already
        self._flow: np.ndarray | None = None  # of the held frames, as far as it was estimated: [m, 2, h, w]
        if latents is not None:
            plan.check_latents_exist()
            if plan.num_frames is not None:
                self._check_latents(latents, max(plan.num_frames, plan.window))

    def push(self, frames: np.ndarray) -> list[np.ndarray]:
        """Take source frames, and outpaint each window that they complete.

        Args:
            frames: uint8 [n, h, w, 3], or one frame [h, w, 3]. Frames after the request's `max_frames` are ignored.

        Returns:
            Finished chunks, uint8 [m, H, W, 3] each; often none.

        Raises:
            UsageError: the frames have another size or dtype, the session is finished, or `on_step` returns other
                latents than it may.
            Cancelled: `cancel` was called.
            EngineError: an engine fails.
        """
        self._check_usable()
        frames = np.asarray(frames)
        frames = frames[None] if frames.ndim == 3 else frames
        check_frames(frames, self.plan.canvas.source_width, self.plan.canvas.source_height, "source")
        chunks = []
        most = self.plan.request.max_frames
        for frame in frames if most is None else frames[: max(0, most - self._first - len(self._held))]:
            self._held.append(frame)
            if self.plan.mode == "stream" and len(self._held) == self.plan.window:
                chunks.append(self._next_window())
        return chunks

    def finish(self) -> list[np.ndarray]:
        """Outpaint the remaining frames, close the session, and return the last chunks."""
        self._check_usable()
        chunks = [self._next_window()] if len(self._held) > self._carried else []
        self._closed = True
        return chunks

    def run(self, frames: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        """Push frames, uint8 [h, w, 3], at most `max_frames`, and finish. Yield chunks when they are finished."""
        for frame in islice(frames, self.plan.request.max_frames):
            yield from self.push(frame)
        yield from self.finish()

    def run_to_latents(self, frames: Iterable[np.ndarray]) -> Tensor:
        """Push every frame. Return clean latents FP32 [N, 4, h, w], no frames. Raises UsageError in stream mode."""
        self.plan.check_latents_exist()
        for frame in islice(frames, self.plan.request.max_frames):
            self.push(frame)
        self._check_usable()
        source = pad_to_window(np.stack(self._held), self.plan.window)
        with self._schedule.join() as home:
            clean, _ = self._denoise(home, source)
        self._closed = True
        return clean[: len(self._held)]

    def cancel(self) -> None:
        """Stop before the next step. The thread of the session then gets Cancelled. Any thread may call this."""
        self._cancelled.set()

    def check_cancelled(self) -> None:
        """Raise Cancelled after a call of `cancel`."""
        if self._cancelled.is_set():
            raise Cancelled("the session was cancelled")

    @property
    def _carried(self) -> int:
        return 0 if self._finished is None else len(self._finished)

    def _check_usable(self) -> None:
        self.check_cancelled()
        if self._closed:
            raise UsageError("the session is finished; open a new one for another clip")

    def _next_window(self) -> np.ndarray:
        """Outpaint the held frames, keep the last of them for the window after, and return the new ones."""
        source = pad_to_window(np.stack(self._held), self.plan.window)
        with self._schedule.join() as home:
            clean, flow = self._denoise(home, source)
            done = self._decode(home, clean, source, flow)
        count, carried = len(self._held), self._carried
        if self._finished is not None:
            done[:carried] = self._finished
        keep = min(self.plan.request.overlap, count)
        self._held, self._finished = self._held[count - keep :], done[count - keep : count] if keep else None
        self._flow = flow[count - keep : count - 1] if keep > 1 else None
        self._first += count - keep
        self._on_event(WindowFinished(self._window, self.plan.num_windows, done[carried:count]))
        self._window += 1
        return done[carried:count]

    def _denoise(self, home: Device, source: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Prepare and denoise `source`, uint8 [N, h, w, 3]: one window, or a joint clip. Return latents and flow."""
        request = self.plan.request
        places = range(self._first, self._first + len(source))
        flow = self._estimate_flow(source)
        scheduler, arguments = self.plan.sampler()
        steps = len(scheduler.timesteps)

        def on_step(step: int, timestep: Tensor, latents: Tensor) -> Tensor:
            done = StepDone(self._window, self.plan.num_windows, steps, step, timestep, latents)
            replaced = self._on_step(done)
            if replaced is not None and _describe(replaced) != _describe(latents):
                expected = f"they are {_describe(latents)} in this step"
                raise UsageError(f"a callback returned {_describe(replaced)} in place of the latents; {expected}")
            self._on_event(done)
            self._check_usable()
            return latents if replaced is None else replaced

        with ExitStack() as held:
            predict = self._bind_windows(held, home, source, flow)
            self._on_event(Prepared(self._window, self.plan.num_windows, steps))
            noise = StepNoise(request.seed, places, steps)
            return denoise(predict, self._initial_noise(home, places), scheduler, arguments, noise, on_step), flow

    def _estimate_flow(self, source: np.ndarray) -> np.ndarray:
        """Return flow float32 [N, 2, h, w]. Pairs of frames that the window before held are not estimated again."""
        if self._flow is None:
            return optical_flow(source, self.plan.request.flow)
        return np.concatenate([self._flow, optical_flow(source[len(self._flow) :], self.plan.request.flow)])

    def _bind_windows(self, held: ExitStack, home: Device, source: np.ndarray, flow: np.ndarray) -> Predict:
        """Prepare every window on a device, and return the noise prediction of the whole, cross-faded."""
        plan = self.plan
        windows = plan.joint_windows(len(source))
        weights = [weight.to(home.engines.device) for weight in fusion_weights(windows)]
        devices = self._schedule.devices
        first = devices.index(home)
        in_parallel = held.enter_context(self._schedule.parallel(len(windows)))

        def prepare(number: int) -> _BoundWindow:
            window, device = windows[number], devices[(first + number) % len(devices)]
            part = slice(window.start, window.stop)
            with device.turn(self._cancelled) as engines:
                unet = engines.open("unet_step", plan.profile)
                constants = prepare_window(engines, plan.profile, plan.canvas, source[part], flow[part], self._finished)
                binding = unet.bind(constants)
                held.callback(binding.close)  # here: another window may fail
                return _BoundWindow(window, device, unet, binding)

        bound = in_parallel(prepare, range(len(windows)))

        def predict(sample: Tensor, timestep: Tensor) -> Tensor:
            def of_window(part: _BoundWindow) -> Tensor:
                with part.device.turn(self._cancelled) as engines:
                    own = sample[part.window.start : part.window.stop].to(engines.device)
                    noise = part.engine.run(part.binding, sample=own, timestep=timestep.to(engines.device))[
                        "noise_pred"
                    ]
                    return guide(noise, plan.request.guidance_scale, plan.profile.guided).to(sample.device)

            return fuse(in_parallel(of_window, bound), windows, weights)

        return predict

    def _decode(self, home: Device, latents: Tensor, source: np.ndarray, flow: np.ndarray) -> np.ndarray:
        """Decode latents [N, 4, h, w], N at least a window, to frames uint8 [N, H, W, 3]."""
        plan, size = self.plan, self.plan.window
        places = range(self._first, self._first + len(source))
        latents = with_texture_noise(latents, flow, home.engines.config.decode_noise, plan.request.seed, places)
        out = np.empty((len(source), plan.canvas.height, plan.canvas.width, 3), np.uint8)
        for first in range(0, len(source), size):
            start = min(first, len(source) - size)  # the last chunk shifts back: the decoder takes whole windows
            part = slice(start, start + size)
            with home.turn(self._cancelled) as engines:
                out[part] = decode_window(
                    engines, plan.profile, plan.canvas, latents[part], source[part], plan.request.feather
                )
        return out

    def _initial_noise(self, home: Device, places: range) -> Tensor:
        if self._latents is None:
            noise = frame_noise(self.plan.request.seed, Purpose.INITIAL, places, self.plan.latent_shape)
        else:
            self._check_latents(self._latents, len(places))
            noise = self._latents.float()
        return noise.to(home.engines.device)

    def _check_latents(self, latents: Tensor, num_frames: int) -> None:
        shape = [num_frames, *self.plan.latent_shape]
        if list(latents.shape) != shape:
            raise UsageError(f"latents have shape {list(latents.shape)}, this clip takes {shape}")


def _describe(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{TensorSpec(tuple(value.shape), value.dtype)} on {value.device}"


@dataclass(frozen=True)
class _BoundWindow:
    window: Window
    device: Device
    engine: Engine
    binding: Binding
