"""Compares the engines of a folder with the FP32 eager model: every output, then whole runs of a clip."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from hero_export.checkpoint import Checkpoint
from hero_export.thresholds import THRESHOLDS, Thresholds
from hero_rt.engines import Binding, Engine, EngineSet, Observer, read_manifest
from hero_rt.engines.eager import EagerEngine, EagerEngines
from hero_rt.engines.folder import EngineFolder
from hero_rt.engines.manifest import DTYPES, Manifest, write_manifest
from hero_rt.errors import HeroError, UsageError
from hero_rt.models.hero import HeroModel
from hero_rt.outpainter import Outpainter
from hero_rt.request import OutpaintRequest, Padding
from hero_rt.session import Event, StepDone
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.profile import Profile, parse_profile
from hero_rt.stages.flow import MIN_SIDE
from hero_rt.video import open_video

STEPS = 10
GUIDANCE_SCALE = 2.0  # of the guided profiles
SEED = 0


class _Comparison(BaseModel):
    passed: bool


class OutputParity(_Comparison):
    """Compares one output of one engine with FP32 eager on equal inputs."""

    submodule: str
    profile: str
    output: str
    relative_l2: float
    max_abs: float
    cosine: float


class ClipParity(_Comparison):
    """Compares a whole run at one profile: the final latents after `steps`, and the frames."""

    profile: str
    steps: int
    latents_relative_l2: float
    psnr_db: float


class ParityReport(BaseModel):
    """The result of a verification, as `hero-export verify --json` writes it."""

    folder: str
    judged_as: str  # of THRESHOLDS
    tolerances: dict[str, float]
    clip: str
    outputs: list[OutputParity]
    clips: list[ClipParity]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in (*self.outputs, *self.clips))


def verify(
    folder: Path,
    clip: Path | None = None,
    device: str | None = None,
    eager: str | None = None,
    reference_device: str | None = None,
    tolerances: Mapping[str, float] | None = None,
) -> ParityReport:
    """Compare every engine of `folder` with the eager FP32 model of the checkpoint that it was built from.

    Each submodule gets the reference's own inputs, so the error of one engine is not counted as that of the next. Whole
    runs follow. The manifest records the worst output of each engine.

    Args:
        folder: engine folder.
        clip: video to verify on; None is a synthetic pan.
        device: where the engines run; None is what their format and this machine allow.
        eager: "fp32" or "fp16" judges the PyTorch model in this dtype in place of the engines. It shows the error of
            FP16 itself.
        reference_device: where the FP32 model runs; None is the engines' device.
        tolerances: fields of `Thresholds` that replace the limits of the dtype.

    Returns:
        The report. A parity failure is in the report and is no exception.

    Raises:
        EngineError: the folder does not open here.
        UsageError: a device is not here, the clip is too short, or a profile is too small to verify on.
        HeroError: memory is short.
    """
    _check_devices({"--device": device, "--reference-device": reference_device})
    manifest = read_manifest(folder)
    checkpoint = Checkpoint(manifest.build.checkpoint, manifest.build.preset, manifest.build.seed)
    engines: EngineSet
    judged_as: str = "eager fp16" if eager == "fp16" else eager or manifest.build.dtype
    if eager is None:
        engines = EngineFolder(folder, device)
    else:
        engines = EagerEngines(checkpoint.load(DTYPES[eager], device or "cpu"))
    limits = THRESHOLDS[judged_as].model_copy(update=tolerances)
    model = checkpoint.load(device=reference_device or str(engines.device))
    torch.backends.cudnn.allow_tf32 = False  # an FP32 truth is FP32
    outputs: dict[tuple[str, str], list[OutputParity]] = {}
    clips = []
    try:
        for profile in _shapes(manifest):
            source, frame = _fitted_clip(clip, profile)
            inputs, want_latents, want_frames = _reference_run(model, source, frame, profile)
            for submodule in SUBMODULES:
                key = (submodule, str(profile.of(submodule)))
                if key not in outputs:
                    outputs[key] = list(_compare_submodule(model, engines, submodule, profile, inputs, limits))
            latents_error, psnr = math.inf, 0.0
            if all(math.isfinite(row.relative_l2) for rows in outputs.values() for row in rows):
                latents, frames = _run(engines, source, frame, profile)
                latents_error, psnr = relative_l2(latents, want_latents), psnr_of(frames, want_frames)
            passed = latents_error <= limits.latents and psnr >= limits.psnr
            errors = {"latents_relative_l2": latents_error, "psnr_db": psnr}
            clips.append(ClipParity(profile=str(profile), steps=STEPS, passed=passed, **errors))
    except torch.OutOfMemoryError as error:
        raise HeroError(
            f"the FP32 model does not fit beside the engines in the memory of {model.device}; "
            "run it on the CPU: --reference-device cpu"
        ) from error
    finally:
        engines.close()
    if eager is None:
        _record(folder, manifest, outputs)
    return ParityReport(
        folder=str(folder),
        judged_as=judged_as,
        tolerances=limits.model_dump(),
        clip=str(clip or "synthetic pan"),
        outputs=[row for rows in outputs.values() for row in rows],
        clips=clips,
    )


def _check_devices(asked: Mapping[str, str | None]) -> None:
    """Raise UsageError for a device that PyTorch does not see. Loading a model there would fail late."""
    known = ["cpu", "cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    for option, device in asked.items():
        if device not in (None, *(known if len(known) > 2 else known[:1])):
            raise UsageError(f"{option} {device} is not here: PyTorch sees {', '.join(known[2:]) or 'no GPU'}; use cpu")


def _shapes(manifest: Manifest) -> list[Profile]:
    """Return the static shapes to verify. A range gives its smallest, typical and largest shape."""
    shapes = (shape for text in manifest.profiles for shape in parse_profile(text).shapes)
    return [*dict.fromkeys(shapes)]


def relative_l2(got: Tensor, want: Tensor) -> float:
    """Return ‖got - want‖ / ‖want‖ in FP64. NaN counts as infinite."""
    error = float((got.double() - want.double()).norm() / want.double().norm().clamp_min(1e-30))
    return error if math.isfinite(error) else math.inf


def _compare_submodule(
    model: HeroModel,
    engines: EngineSet,
    submodule: str,
    profile: Profile,
    inputs_of: Mapping[str, Mapping[str, Tensor]],
    limits: Thresholds,
) -> Iterator[OutputParity]:
    engine, inputs = engines.open(submodule, profile), inputs_of[submodule]
    got = engine(**{name: x.to(engines.device, engine.inputs[name].dtype) for name, x in inputs.items()})
    want = EagerEngine(model, submodule, profile)(**inputs)
    for name, reference in want.items():
        value, truth = got[name].cpu().double(), reference.cpu()
        error = relative_l2(value, truth)
        yield OutputParity(
            submodule=submodule,
            profile=str(profile.of(submodule)),
            output=name,
            relative_l2=error,
            max_abs=float((value - truth.double()).abs().max().nan_to_num(math.inf)),
            cosine=float(torch.cosine_similarity(value.flatten(), truth.double().flatten(), dim=0)),
            passed=error <= limits.per_output,
        )


class _LastInputs(Observer):
    """Keeps the inputs of each submodule's last run, with the bound ones."""

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Tensor]] = {}

    def before_run(self, engine: Engine, binding: Binding, inputs: Mapping[str, Tensor]) -> None:
        self.seen[engine.submodule] = {**binding.constants, **inputs}


def _reference_run(
    model: HeroModel, source: np.ndarray, frame: Padding, profile: Profile
) -> tuple[dict[str, dict[str, Tensor]], Tensor, np.ndarray]:
    engines, inputs = EagerEngines(model), _LastInputs()
    engines.observers.append(inputs)
    latents, frames = _run(engines, source, frame, profile)
    return inputs.seen, latents, frames


def _run(engines: EngineSet, source: np.ndarray, frame: Padding, profile: Profile) -> tuple[Tensor, np.ndarray]:
    """Run once with a seed. Return final latents [F, 4, h, w] and frames uint8 [F, H, W, 3]."""
    request = OutpaintRequest(
        frame=frame, steps=STEPS, guidance_scale=GUIDANCE_SCALE if profile.guided else 1.0, seed=SEED
    )
    last: list[Tensor] = []

    def keep(event: Event) -> None:
        if isinstance(event, StepDone):
            last[:] = [event.latents]

    with open_video(source) as clip:
        session = Outpainter(engines).session(clip, request, keep)
        frames = np.concatenate(list(session.run(clip.frames())))
    return last[0].cpu(), frames


def _fitted_clip(clip: Path | None, profile: Profile) -> tuple[np.ndarray, Padding]:
    """Return the first window of the clip, scaled to the middle three quarters of the profile's width (OPV 0.25)."""
    side = profile.width // 8
    size = (profile.width - 2 * side, profile.height)
    if min(size) < MIN_SIDE:
        raise UsageError(f"profile {profile} is too small to verify on a clip ({MIN_SIDE} px of source at least)")
    if clip is None:
        frames = _synthetic_pan(profile.frames)
    else:
        with open_video(clip, max_frames=profile.frames) as source:
            frames = np.stack(list(source.frames()))
        if len(frames) < profile.frames:
            raise UsageError(f"{clip} has {len(frames)} frames, verification needs a window of {profile.frames}")
    source_frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    return source_frames, Padding(left=side, right=side)


def _synthetic_pan(num_frames: int) -> np.ndarray:
    """Return uint8 [F, 256, 256, 3]: a camera that pans over smooth noise."""
    noise = np.random.default_rng(SEED).normal(size=(256, 256 + 4 * num_frames, 3)).astype(np.float32)
    scene = cv2.GaussianBlur(noise, (0, 0), 6)
    scene = (128 + 48 * scene / scene.std()).clip(0, 255).astype(np.uint8)
    return np.stack([scene[:, 4 * t : 4 * t + 256] for t in range(num_frames)])


def psnr_of(got: np.ndarray, want: np.ndarray) -> float:
    """Return the PSNR over all frames in dB. Equal frames give 100."""
    error = float(np.mean((got.astype(np.float64) - want) ** 2))
    return 10 * math.log10(255**2 / error) if error > 0 else 100.0


def _record(folder: Path, manifest: Manifest, outputs: Mapping[tuple[str, str], list[OutputParity]]) -> None:
    for engine in manifest.engines:
        served = {str(shape) for shape in parse_profile(engine.profile).shapes}
        rows = [
            row for (name, at), found in outputs.items() if name == engine.submodule and at in served for row in found
        ]
        if rows:
            worst = max(rows, key=lambda row: row.relative_l2)
            engine.parity = worst.model_dump(include={"output", "relative_l2", "max_abs", "cosine", "passed"})
    write_manifest(folder, manifest)
