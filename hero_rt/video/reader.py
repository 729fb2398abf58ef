"""Opening whatever holds a clip."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from hero_rt.errors import UsageError, VideoError
from hero_rt.video.image_folder import ImageFolder
from hero_rt.video.source import BorrowedSource, FirstFrames, FrameArray, VideoSource
from hero_rt.video.video_file import VideoFile

DEFAULT_FRAME_RATE = Fraction(8)  # of images and arrays, which have none of their own


Video = str | Path | np.ndarray | VideoSource


def open_video(video: Video, frame_rate: Fraction | None = None, max_frames: int | None = None) -> VideoSource:
    """Open a video file, a folder of images (in natural order) or uint8 [N, h, w, 3].

    An open source is borrowed: closing the result leaves it open.

    Args:
        frame_rate: of images and arrays (8 by default). A file has its own: giving one is a UsageError.
        max_frames: read only this many.
    Raises: VideoError, UsageError.
    """
    source = _open(video, frame_rate)
    return source if max_frames is None else FirstFrames(source, max_frames)


def _open(video: Video, frame_rate: Fraction | None) -> VideoSource:
    if frame_rate is not None and frame_rate <= 0:
        raise UsageError(f"frame rate {frame_rate} must be positive")
    if isinstance(video, VideoSource):
        return BorrowedSource(video)
    if isinstance(video, np.ndarray):
        return FrameArray(video, frame_rate or DEFAULT_FRAME_RATE)
    path = Path(video)
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    if path.is_dir():
        return ImageFolder(path, frame_rate or DEFAULT_FRAME_RATE)
    if frame_rate is not None:
        raise UsageError(f"frame rate {frame_rate} has no effect: {path} has a rate of its own; leave it out")
    return VideoFile(path)
