"""Opens clips of every kind."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hero_rt.errors import UsageError, VideoError
from hero_rt.video.arrays import is_frames, to_frames
from hero_rt.video.image_folder import ImageFolder
from hero_rt.video.source import BorrowedSource, FirstFrames, FrameArray, VideoSource
from hero_rt.video.video_file import VideoFile

DEFAULT_FRAME_RATE = Fraction(8)  # of images and arrays, which have none of their own


Video = str | Path | np.ndarray | Sequence[Any] | VideoSource | Any  # Any: a torch tensor


def open_video(video: Video, frame_rate: Fraction | None = None, max_frames: int | None = None) -> VideoSource:
    """Open a video file, a folder of images (in natural order), or frames in memory.

    Args:
        video: a path, frames as `to_frames` takes them, or an open source, which closing the result leaves open.
        frame_rate: of images and arrays; default 8 frames a second. A video file has its own.
        max_frames: read only this many.

    Raises:
        VideoError: the clip cannot be read.
        UsageError: a frame rate for a video file, or frames of another type.
    """
    source = _open(video, frame_rate)
    return source if max_frames is None else FirstFrames(source, max_frames)


def _open(video: Video, frame_rate: Fraction | None) -> VideoSource:
    if frame_rate is not None and frame_rate <= 0:
        raise UsageError(f"frame rate {frame_rate} must be positive")
    if isinstance(video, VideoSource):
        return BorrowedSource(video)
    if is_frames(video):
        return FrameArray(to_frames(video), frame_rate or DEFAULT_FRAME_RATE)
    if not isinstance(video, str | Path):
        raise UsageError(
            f"video is of type {type(video).__name__}; give a path, an array, a tensor or a list of PIL images"
        )
    path = Path(video)
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    if path.is_dir():
        return ImageFolder(path, frame_rate or DEFAULT_FRAME_RATE)
    if frame_rate is not None:
        raise UsageError(f"frame rate {frame_rate} has no effect: {path} has a rate of its own; leave it out")
    return VideoFile(path)
