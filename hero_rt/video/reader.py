"""Opening whatever holds a clip."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from hero_rt.errors import UsageError, VideoError
from hero_rt.video.image_folder import ImageFolder
from hero_rt.video.source import FrameArray, VideoSource
from hero_rt.video.video_file import VideoFile

DEFAULT_FRAME_RATE = Fraction(8)  # of images and arrays, which have none of their own


def open_video(video: "str | Path | np.ndarray | VideoSource", frame_rate: Fraction | None = None) -> VideoSource:
    """A video file, a folder of images (in natural order) or uint8 [N, h, w, 3] as a VideoSource.

    frame_rate is that of images and arrays (8 by default); a file has its own. Raises VideoError.
    """
    if frame_rate is not None and frame_rate <= 0:
        raise UsageError(f"frame rate {frame_rate} must be positive")
    if isinstance(video, VideoSource):
        return video
    if isinstance(video, np.ndarray):
        return FrameArray(video, frame_rate or DEFAULT_FRAME_RATE)
    path = Path(video)
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    return ImageFolder(path, frame_rate or DEFAULT_FRAME_RATE) if path.is_dir() else VideoFile(path)
