"""Defines a clip: a size, an exact frame rate, and frames that come one by one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from hero_rt.closable import Closable
from hero_rt.errors import UsageError


class VideoSource(Closable, ABC):
    """A clip that yields its frames once, when they are needed.

    Attributes:
        width: of the frames that it yields.
        height: of the frames that it yields.
        frame_rate: frames a second.
        num_frames: None if the container does not say.
        audio_file: the file whose audio belongs to the clip, or None.
        pixel_aspect: width to height of a pixel. Some broadcast and DVD material has another value than 1.
    """

    width: int
    height: int
    frame_rate: Fraction
    num_frames: int | None
    audio_file: Path | None = None
    pixel_aspect = Fraction(1)

    @abstractmethod
    def frames(self) -> Iterator[np.ndarray]:
        """Yield uint8 [h, w, 3] RGB, one after the other. Raises VideoError if the clip cannot be read to its end."""


class FrameArray(VideoSource):
    """Holds frames uint8 [N, h, w, 3] in memory."""

    def __init__(self, frames: np.ndarray, frame_rate: Fraction):
        self._frames, self.frame_rate, self.num_frames = frames, frame_rate, len(frames)
        self.height, self.width = frames.shape[1:3]

    def frames(self) -> Iterator[np.ndarray]:
        return iter(self._frames)


class BorrowedSource(VideoSource):
    """A source of the caller. Closing it leaves the caller's source open."""

    def __init__(self, source: VideoSource):
        self._source = source
        self.width, self.height, self.frame_rate = source.width, source.height, source.frame_rate
        self.audio_file, self.pixel_aspect, self.num_frames = source.audio_file, source.pixel_aspect, source.num_frames

    def frames(self) -> Iterator[np.ndarray]:
        return self._source.frames()


class FirstFrames(BorrowedSource):
    """At most the first `limit` frames of another source, which closing closes."""

    def __init__(self, source: VideoSource, limit: int):
        if limit < 1:
            raise UsageError(f"max frames is {limit}; it must be at least 1")
        super().__init__(source)
        self._limit = limit
        self.num_frames = min(source.num_frames, limit) if source.num_frames else None

    def frames(self) -> Iterator[np.ndarray]:
        return islice(self._source.frames(), self._limit)

    def close(self) -> None:
        self._source.close()
