"""Clips made from photographs: a camera that pans, zooms and turns, and things that move before it.

Each clip has one camera path over one photograph, and in a third of them one or two cut-outs of another photograph move
across it. What leaves the frame comes back elsewhere, so a model can learn to continue a frame from its neighbours.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from hero_rt.errors import UsageError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
MIN_SIDE = 300  # px, of a photograph worth a camera path
OBJECT_SHARE = 0.35  # of the clips


def photographs(folders: list[Path]) -> list[Path]:
    """Image files under `folders` of at least 300 px a side, sorted. Raises UsageError where there are none."""
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    photos = [path for path in found if _is_photograph(path)]
    if not photos:
        raise UsageError(f"no photograph of {MIN_SIDE} px or more a side under {', '.join(map(str, folders))}")
    return photos


def synthesize(photos: list[Path], out: Path, count: int, size: int, frames: int, seed: int, jobs: int = 1) -> None:
    """Write `count` clips of `size` x `size` px and `frames` frames as out/00000.mp4, ... Finished ones are kept."""
    out.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(count) if not (out / f"{i:05d}.mp4").exists()]
    arguments = [(photos, out / f"{i:05d}.mp4", size, frames, (seed, i)) for i in missing]
    with ProcessPoolExecutor(jobs) as pool:
        for _ in pool.map(_write_one, arguments, chunksize=8):
            pass


def render(photos: list[Path], size: int, frames: int, seed: tuple[int, int]) -> np.ndarray:
    """One clip, uint8 [F, size, size, 3], the same for the same seed."""
    rng = np.random.default_rng(seed)
    photo = _load(photos[rng.integers(len(photos))], size, rng)
    clip = np.stack([_view(photo, matrix, size) for matrix in _camera_path(photo, size, frames, rng)])
    if rng.random() < OBJECT_SHARE:
        for _ in range(rng.integers(1, 3)):
            _move_across(clip, _load(photos[rng.integers(len(photos))], size, rng), rng)
    gain, shift = rng.uniform(0.8, 1.2), rng.uniform(-15, 15)
    return np.clip(clip * gain + shift, 0, 255).astype(np.uint8)


def _is_photograph(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return min(image.size) >= MIN_SIDE
    except UnidentifiedImageError:
        return False


def _load(path: Path, size: int, rng: np.random.Generator) -> np.ndarray:
    """The photograph at a scale where a view of `size` px shows a sixth to all of its shorter side."""
    with Image.open(path) as image:
        scale = size * rng.uniform(1.1, 6.0) / min(image.size)
        scale = min(scale, 1.0) if min(image.size) > 1.1 * size else 1.1 * size / min(image.size)
        wanted = (round(image.width * scale), round(image.height * scale))
        image.draft("RGB", wanted)
        pixels = np.asarray(image.convert("RGB").resize(wanted, Image.Resampling.LANCZOS))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _camera_path(photo: np.ndarray, size: int, frames: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """[2, 3] a frame: view pixels to photograph pixels."""
    height, width = photo.shape[:2]
    kind = rng.choice(["pan", "zoom", "turn", "still"], p=[0.55, 0.2, 0.1, 0.15])
    speed = {"pan": rng.uniform(0.5, 7), "zoom": rng.uniform(0, 1.5), "turn": rng.uniform(0, 2), "still": 0.0}[kind]
    # pans are mostly level, as hands and tripods make them
    angle = rng.choice([0.0, np.pi]) + rng.normal(0, 0.15) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    velocity = speed * np.array([np.cos(angle), np.sin(angle)])
    zoom = rng.uniform(-0.025, 0.025) if kind == "zoom" else 0.0
    turn = rng.uniform(-0.02, 0.02) if kind == "turn" else 0.0
    shake = rng.uniform(0, 0.6) if rng.random() < 0.4 else 0.0
    first_angle = rng.normal(0, 0.05)
    centre = np.array([width, height]) * rng.uniform(0.3, 0.7, 2) - velocity * frames / 2
    for t in range(frames):
        scale, theta = np.exp(zoom * (t - frames / 2)), first_angle + turn * t
        half_extent = np.array([width, height]) / 2 - size / 2
        where = _reflect(centre + velocity * t, np.array([width, height]) / 2, np.maximum(half_extent, 1))
        where = where + rng.normal(0, 1, 2) * shake
        rotation = scale * np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
        yield np.hstack([rotation, (where - rotation @ np.full(2, size / 2))[:, None]])


def _reflect(position: np.ndarray, middle: np.ndarray, half_extent: np.ndarray) -> np.ndarray:
    """A camera that reaches the photograph's border turns back."""
    period = 4 * half_extent
    phase = np.mod(position - middle + half_extent, period)
    return middle - half_extent + np.where(phase > 2 * half_extent, period - phase, phase)


def _view(photo: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP  # linear blurs what a decoder is to learn to draw
    return cv2.warpAffine(photo, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def _move_across(clip: np.ndarray, photo: np.ndarray, rng: np.random.Generator) -> None:
    """Paste a soft-edged blob of `photo` along a line across `clip`, in place."""
    size, frames = clip.shape[1], len(clip)
    radius = rng.uniform(0.06, 0.25, 2) * size
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    wobble = 1 + 0.25 * np.sin(rng.integers(2, 5) * angles + rng.uniform(0, 6))
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * wobble[:, None]
    start, velocity = rng.uniform(0, size, 2), rng.normal(0, 2.5, 2)
    corner = rng.integers(0, np.maximum(1, np.array(photo.shape[1::-1]) - size))
    for t in range(frames):
        where = start + velocity * t
        mask = np.zeros((size, size), np.uint8)
        cv2.fillPoly(mask, [np.round((outline + where) * 8).astype(np.int32)], 255, cv2.LINE_AA, shift=3)
        shift = np.hstack([np.eye(2), (corner + size / 2 - where)[:, None]])
        weight = mask[..., None] / 255.0
        clip[t] = (clip[t] * (1 - weight) + _view(photo, shift, size) * weight).astype(np.uint8)


def _write_one(arguments: tuple[list[Path], Path, int, int, tuple[int, int]]) -> None:
    photos, path, size, frames, seed = arguments
    clip = render(photos, size, frames, seed)
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"crf": "10", "preset": "veryfast"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    part.rename(path)
