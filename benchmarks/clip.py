"""Makes the clip that every suite outpaints, and outpaints it here or in a fresh process."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

# only what an application imports to open engines: the exporter and the PyTorch model's libraries load for seconds,
# and each contender's time would include these
from benchmarks.settings import Settings
from benchmarks.timing import synchronize
from hero_rt.engines import open_engines
from hero_rt.engines.engine import EngineSet
from hero_rt.engines.folder import EngineFolder
from hero_rt.engines.manifest import DTYPES, MANIFEST_NAME
from hero_rt.outpainter import Outpainter
from hero_rt.request import Mode, OutpaintRequest, Padding
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile
from hero_rt.video import VideoSource

SPEED = 4  # pixels a frame
FRAME_RATE = Fraction(25)
GUIDANCE_SCALE = 2.0  # of the guided profiles
FIRST_FRAMES = 64
WARM_WINDOWS = {"cpu": 1, "cuda": 2}


class Pan(VideoSource):
    """Pans a camera over smooth noise. The scene wraps round, so any length takes the same memory."""

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
        """Return all frames, uint8 [N, h, w, 3]."""
        return np.stack(list(self.frames()))


def pan_for(
    profile: Profile, num_frames: int, steps: int, mode: Mode = "joint", seed: int = 0
) -> tuple[Pan, OutpaintRequest]:
    """Return a clip as wide as three quarters of the profile, and the request that widens it (OPV 0.25).

    Equal seeds give equal clips and equal initial noise.
    """
    side, scale = profile.width // 8, GUIDANCE_SCALE if profile.guided else 1.0
    frame = Padding(left=side, right=side)
    request = OutpaintRequest(frame=frame, steps=steps, guidance_scale=scale, mode=mode, seed=seed)
    return Pan(profile.width - 2 * side, profile.height, num_frames, seed), request


def outpaint_pan(outpainter: Outpainter, *asked: Any) -> Iterator[np.ndarray]:
    """Outpaint `pan_for(*asked)`. Yield chunks as windows finish; joint mode yields one chunk."""
    clip, request = pan_for(*asked)
    yield from outpainter.session(clip, request).run(clip.frames())


class ClipJob(NamedTuple):
    """One run. `folder` is an engine folder, or the checkpoint of the PyTorch model.

    warm: run windows before the clock starts, until engines have captured their CUDA graphs.
    """

    settings: Settings
    contender: str
    folder: Path
    profile: Profile
    num_frames: int
    steps: int
    mode: Mode
    warm: bool = False


class Ends:
    """Keeps the first 64 frames and the last chunk of a clip for comparison, however long the clip is."""

    def __init__(self, chunks: Iterable[np.ndarray]) -> None:
        """Consume `chunks`, each uint8 [n, H, W, 3], and record when the first arrives."""
        self.count, self.first_at = 0, 0.0
        first: list[np.ndarray] = []
        for chunk in chunks:
            self.first_at = self.first_at or time.perf_counter()
            if self.count < FIRST_FRAMES:
                first.append(chunk[: FIRST_FRAMES - self.count])
            last = chunk[-FIRST_FRAMES:]
            self.count += len(chunk)
        self.frames = np.concatenate([*first, last])  # a short clip has its last frames in both parts


class ClipOutcome(NamedTuple):
    """The times in seconds, sizes in bytes, and the frames that `Ends` keeps."""

    start: float  # from the start of the process, with imports
    open: float  # to open the engines, or to import PyTorch's model and load it
    first_window: float
    total: float
    weights_bytes: int
    peak_bytes: int
    frames: np.ndarray


def run_in_fresh_process(job: ClipJob) -> ClipOutcome:
    """Run the job in a spawned process that ends afterwards."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_run, job, time.time(), torch.get_num_threads()).result()


def _run(job: ClipJob, started: float, threads: int) -> ClipOutcome:
    start = time.time() - started  # two processes share only the system's clock
    torch.set_num_threads(threads)
    device = torch.device(job.settings.device)
    now = time.perf_counter
    begun = now()
    peak = _watch_memory(device)
    engines = _open(job)
    for submodule in SUBMODULES:
        engines.open(submodule, job.profile)
    synchronize(device)
    opened = now()
    outpainter = Outpainter(engines)
    for _ in range(WARM_WINDOWS[device.type] if job.warm else 0):
        list(outpaint_pan(outpainter, job.profile, job.profile.frames, job.steps, job.mode))
    clock = now()
    ends = Ends(outpaint_pan(outpainter, job.profile, job.num_frames, job.steps, job.mode))
    total = now() - clock
    assert ends.count == job.num_frames
    weights = weights_bytes(engines, job.profile)
    return ClipOutcome(start, opened - begun, ends.first_at - clock, total, weights, peak(), ends.frames)


def _open(job: ClipJob) -> EngineSet:
    if (job.folder / MANIFEST_NAME).is_file():
        return open_engines(job.folder, job.settings.device)
    from benchmarks.contenders import open_contender
    from hero_rt.models.hero import HeroModel

    model = HeroModel.from_pretrained(job.folder, DTYPES[job.settings.dtype], job.settings.device)
    return open_contender(job.settings, job.contender, model)


def weights_bytes(engines: EngineSet, profile: Profile) -> int:
    """Return the bytes of the weights that one profile's engines read, shared files once, or of the model's parts."""
    if isinstance(engines, EngineFolder):
        records = [engines.manifest.find(submodule, profile) for submodule in SUBMODULES]
        names = {name for record in records if record for name in (record.file, *record.weights)}
        return sum(engines.manifest.files[name].bytes for name in names)
    from hero_rt.models.hero import PARTS

    return sum(p.nbytes for part in PARTS for p in engines.model[part].parameters())  # type: ignore[attr-defined]


def _watch_memory(device: torch.device) -> Callable[[], int]:
    """Return a function that returns the peak memory growth since now: of the process, or of the GPU's used memory."""
    if device.type != "cuda":
        resident = _status("VmRSS")
        return lambda: _status("VmHWM") - resident
    torch.zeros(1, device=device)  # before measuring: the CUDA context is no part of the contender
    before, _ = torch.cuda.mem_get_info(device)

    def peak() -> int:
        """Return PyTorch's peak plus what other libraries hold now."""
        free, _ = torch.cuda.mem_get_info(device)
        others = before - free - torch.cuda.memory_reserved(device)
        return max(0, others) + torch.cuda.max_memory_reserved(device)

    return peak


def _status(field: str) -> int:
    """Return a memory size of this process in bytes, from Linux's /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
