"""Makes clips from photographs, with camera motion, layers with parallax, and moving objects.

Each clip has one camera path over one photograph. Some clips also have a nearer layer of another photograph that moves
faster, moving cut-outs, changing light, or film grain. Content leaves and enters the frame, so a model can learn to
continue a frame from its neighbours.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from hero_rt.atomic import atomic_path
from hero_rt.errors import UsageError
from hero_train.recipe import ClipOptions

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
MIN_SIDE = 300  # pixels: smaller photographs are not used
OBJECT_SHARE = 0.4  # shares of the clips
PARALLAX_SHARE = 0.25
LIGHT_SHARE = 0.25
GRAIN_SHARE = 0.25


def photographs(folders: list[Path]) -> list[Path]:
    """Return image files under `folders` of at least 300 px a side, sorted. Raises UsageError if there are none."""
    photos = _images(folders, IMAGE_SUFFIXES, lambda image: min(image.size) >= MIN_SIDE)
    if not photos:
        raise UsageError(f"no photograph of {MIN_SIDE} px or more a side under {', '.join(map(str, folders))}")
    return photos


def cutouts(folders: list[Path]) -> list[Path]:
    """Return PNG files with transparency under `folders`, sorted."""
    return _images(folders, {".png"}, lambda image: image.mode in ("RGBA", "LA") and min(image.size) >= 40)


def _images(folders: list[Path], suffixes: set[str], wanted: Callable[[Image.Image], bool]) -> list[Path]:
    found = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes):
        # a file that is not an image is not used, whatever its name is
        with suppress(UnidentifiedImageError), Image.open(path) as image:
            if wanted(image):
                found.append(path)
    return found


def synthesize(photos: list[Path], out: Path, options: ClipOptions, things: Sequence[Path] = ()) -> None:
    """Write clips as out/00000.mp4, ... Finished ones are kept.

    things: Pictures with transparency that move across some clips. Default: pieces of photographs.
    """
    out.mkdir(parents=True, exist_ok=True)
    missing = [index for index in range(options.count) if not (out / f"{index:05d}.mp4").exists()]
    with ProcessPoolExecutor(options.jobs) as pool:
        list(pool.map(partial(_write, photos, out, options, things), missing, chunksize=8))


def render(
    photos: list[Path], size: int, frames: int, seed: tuple[int, int], things: Sequence[Path] = ()
) -> np.ndarray:
    """Return one clip, uint8 [F, size, size, 3]. Equal seeds give equal clips."""
    rng = np.random.default_rng(seed)
    photo = _load(photos[rng.integers(len(photos))], size, rng)
    matrices = np.stack(list(_camera_path(photo, size, frames, rng)))
    clip = np.stack([_view(photo, matrix, size) for matrix in matrices])
    if rng.random() < PARALLAX_SHARE:
        centres = matrices @ np.array([size / 2, size / 2, 1])
        _near_layer(clip, _load(photos[rng.integers(len(photos))], size, rng), centres - centres[0], rng)
    if rng.random() < OBJECT_SHARE:
        for _ in range(rng.integers(1, 3)):
            if things and rng.random() < 0.7:
                _carry_across(clip, _load_cutout(things[int(rng.integers(len(things)))], size, rng), rng)
            else:
                _move_across(clip, _load(photos[rng.integers(len(photos))], size, rng), rng)
    gain, shift = rng.uniform(0.8, 1.2), rng.uniform(-15, 15)
    finished = clip * gain + shift
    if rng.random() < LIGHT_SHARE:
        finished = finished * _light(frames, size, rng)
    if rng.random() < GRAIN_SHARE:
        finished = finished + _grain(finished, rng)
    return np.clip(finished, 0, 255).astype(np.uint8)


def _load(path: Path, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the photograph, scaled so that `size` px are a sixth to all of its shorter side."""
    with Image.open(path) as image:
        scale = size * rng.uniform(1.1, 6.0) / min(image.size)
        scale = min(scale, 1.0) if min(image.size) > 1.1 * size else 1.1 * size / min(image.size)
        return _resized(image, "RGB", scale, rng)


def _resized(image: Image.Image, mode: str, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Resize to at least 4 px a side, and mirror half the time."""
    wanted = (max(4, round(image.width * scale)), max(4, round(image.height * scale)))
    image.draft("RGB", wanted)  # a JPEG decodes faster at a reduced size
    pixels = np.asarray(image.convert(mode).resize(wanted, Image.Resampling.LANCZOS))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _camera_path(photo: np.ndarray, size: int, frames: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Return a [2, 3] matrix per frame that maps view pixels to photograph pixels."""
    height, width = photo.shape[:2]
    kind = rng.choice(["pan", "zoom", "turn", "still"], p=[0.5, 0.2, 0.1, 0.2])
    speed = {"pan": rng.uniform(0.5, 7), "zoom": rng.uniform(0, 1.5), "turn": rng.uniform(0, 2), "still": 0.0}[kind]
    # pans are mostly horizontal, as in real footage
    angle = rng.choice([0.0, np.pi]) + rng.normal(0, 0.15) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    velocity = speed * np.array([np.cos(angle), np.sin(angle)])
    zoom = rng.uniform(-0.025, 0.025) if kind == "zoom" else 0.0
    turn = rng.uniform(-0.02, 0.02) if kind == "turn" else 0.0
    shake = rng.uniform(0, 0.6) if rng.random() < 0.3 else 0.0
    hand = _hand_held(frames, rng) * (rng.uniform(1, 8) if rng.random() < 0.3 else 0.0)
    travel = _travel(frames, rng)
    first_angle = rng.normal(0, 0.05)
    centre = np.array([width, height]) * rng.uniform(0.3, 0.7, 2) - velocity * frames / 2
    for t in range(frames):
        scale, theta = np.exp(zoom * (t - frames / 2)), first_angle + turn * t
        half_extent = np.array([width, height]) / 2 - size / 2
        where = _reflect(centre + velocity * travel[t], np.array([width, height]) / 2, np.maximum(half_extent, 1))
        where = where + rng.normal(0, 1, 2) * shake + hand[t]
        rotation = scale * np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
        yield np.hstack([rotation, (where - rotation @ np.full(2, size / 2))[:, None]])


def _travel(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return the distance moved up to each frame, [F]. The speed is steady or varies, as by hand."""
    steps = np.arange(frames, dtype=float)
    if rng.random() < 0.5:
        return steps
    swing, period = rng.uniform(0.3, 1.0), rng.uniform(1, 3) * frames / 2
    speed = 1 + swing * np.sin(2 * np.pi * steps / period + rng.uniform(0, 2 * np.pi))
    return np.cumsum(speed) - speed[0]


def _hand_held(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return a slow random path with a standard deviation of about 1, [F, 2]."""
    t = np.arange(frames)[:, None] / 24
    waves = [
        np.sin(2 * np.pi * (rng.uniform(0.3, 2.5, 2) * t) + rng.uniform(0, 2 * np.pi, 2)) / (1 + i) for i in range(3)
    ]
    return np.sum(waves, axis=0)


def _reflect(position: np.ndarray, middle: np.ndarray, half_extent: np.ndarray) -> np.ndarray:
    """Reflect a path at the border of the photograph."""
    period = 4 * half_extent
    phase = np.mod(position - middle + half_extent, period)
    return middle - half_extent + np.where(phase > 2 * half_extent, period - phase, phase)


def _view(photo: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP  # linear would blur texture that a decoder should learn
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


def _near_layer(clip: np.ndarray, photo: np.ndarray, moved: np.ndarray, rng: np.random.Generator) -> None:
    """Paste ground or a wall of another photograph over one side of `clip`, in place. It moves 1.3 to 2.5 times as far.

    moved: [F, 2], the path of the camera since the first frame.
    """
    frames, size = clip.shape[:2]
    nearer, turns = rng.uniform(1.3, 2.5), int(rng.choice([0, 0, 1, 3]))  # ground twice as often as a wall
    reach = int(np.abs(moved).max() * nearer) + 1
    along = np.arange(size + 2 * reach)
    waves = sum(
        rng.uniform(0.01, 0.06) * size * np.sin(2 * np.pi * along / (size * rng.uniform(0.15, 1.0)) + rng.uniform(0, 6))
        for _ in range(3)
    )
    edge = size * rng.uniform(0.55, 0.85) + waves
    for t in range(frames):
        shift = moved[t] * nearer
        sideways, towards = (shift[0], shift[1]) if turns % 2 == 0 else (shift[1], shift[0])
        line = np.interp(np.arange(size) + reach + sideways, along, edge) - towards * (1 if turns != 3 else -1)
        weight = np.clip(np.arange(size)[:, None] - line[None], 0, 1)
        if turns:
            weight = weight.T if turns == 1 else weight.T[:, ::-1]
        matrix = np.hstack([np.eye(2), (np.array(photo.shape[1::-1]) / 2 - size / 2 + shift)[:, None]])
        near = _view(photo, matrix, size)
        clip[t] = (clip[t] * (1 - weight[..., None]) + near * weight[..., None]).astype(np.uint8)


def _load_cutout(path: Path, size: int, rng: np.random.Generator) -> np.ndarray:
    """Load RGBA whose longer side is 15 to 60% of `size`."""
    with Image.open(path) as image:
        return _resized(image, "RGBA", size * rng.uniform(0.15, 0.6) / max(image.size), rng)


def _carry_across(clip: np.ndarray, thing: np.ndarray, rng: np.random.Generator) -> None:
    """Move a picture with transparency along a line across `clip`, in place. It sways and may grow."""
    frames, size = clip.shape[:2]
    height, width = thing.shape[:2]
    premultiplied = thing.astype(np.float32) * (thing[..., 3:] / np.float32(255))
    premultiplied[..., 3] = thing[..., 3]
    start, velocity = rng.uniform(0, size, 2), rng.normal(0, 1, 2) * [2.5, 0.8]
    growth, sway, pace = rng.uniform(-0.008, 0.012), rng.uniform(0, 0.08), rng.uniform(0.1, 0.5)
    for t in range(frames):
        scale, angle = np.exp(growth * t), sway * np.sin(pace * t)
        rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        where = start + velocity * t + [0, 20 * sway * np.sin(2 * pace * t)]
        matrix = np.hstack([rotation, (where - rotation @ [width / 2, height / 2])[:, None]])
        drawn = cv2.warpAffine(premultiplied, matrix, (size, size), flags=cv2.INTER_LINEAR)
        clip[t] = np.clip(clip[t] * (1 - drawn[..., 3:] / 255) + drawn[..., :3], 0, 255).astype(np.uint8)


def _light(frames: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return factors [F, size or 1, size or 1, 3]: light or its colour changes, or a soft shadow passes."""
    t = np.linspace(0, 1, frames)
    change = np.sin(2 * np.pi * (rng.uniform(0.2, 1.0) * t + rng.random()))[:, None, None, None]
    if rng.random() < 0.5:
        return 1 + change * rng.uniform(0.03, 0.2) * rng.uniform(0.6, 1.0, 3)
    angle, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.5) * size
    y, x = np.mgrid[:size, :size]
    across = np.cos(angle) * x + np.sin(angle) * y
    middle = rng.uniform(0, size) + rng.uniform(-3, 3) * np.arange(frames)
    shadow = np.exp(-(((across[None] - middle[:, None, None]) / width) ** 2))
    return (1 - rng.uniform(0.1, 0.45) * shadow)[..., None]


def _grain(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add film grain: new in each frame, slightly soft, strongest in mid tones, mostly grey."""
    frames, height, width = clip.shape[:3]
    noise = rng.normal(0, 1, (frames, height, width, 1)) + 0.3 * rng.normal(0, 1, clip.shape)
    noise = np.stack([cv2.GaussianBlur(frame, (3, 3), rng.uniform(0.4, 0.8)) for frame in noise])
    tone = np.clip(clip.mean(-1, keepdims=True) / 255, 0, 1)
    return rng.uniform(1, 5) * noise * (0.4 + 2.4 * tone * (1 - tone))


def _write(photos: list[Path], out: Path, options: ClipOptions, things: Sequence[Path], index: int) -> None:
    clip = render(photos, options.size, options.frames, (options.seed, index), things)
    with atomic_path(out / f"{index:05d}.mp4") as path, av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"crf": "10", "preset": "veryfast"})
        stream.width = stream.height = options.size
        stream.pix_fmt = "yuv420p"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
