"""Reads a video file as a clip. Frames are decoded when needed and turned upright; a missing frame is an error."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Colorspace

from hero_rt.errors import VideoError
from hero_rt.video.colour import UNSPECIFIED, customary_matrix
from hero_rt.video.source import VideoSource


class VideoFile(VideoSource):
    """A file that FFmpeg reads, turned and mirrored as its metadata says; frame_rate is the average rate, exactly."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"{path} cannot be opened as a video: {error.strerror}; is it a whole video file?"
            ) from error
        try:
            self._open_stream()
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self) -> None:
        if self._container.format.name == "tty":
            raise VideoError(f"{self._path} cannot be opened as a video: it is text")
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise VideoError(f"{self._path} has no video stream")
        self._stream = streams[0]
        if self._stream.codec_context is None:
            raise VideoError(f"{self._path} holds video of a codec that this FFmpeg cannot decode; re-encode it")
        self._stream.thread_type = "AUTO"
        self.audio_file = self._path if self._container.streams.audio else None
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not rate:
            raise VideoError(f"{self._path} does not tell its frame rate; remux it into .mp4 or .mkv")
        self.frame_rate = rate
        self.num_frames = self._count()
        self._orientation: _Orientation | None = None
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None or self._orientation is None:
            raise VideoError(f"{self._path} has zero frames")
        self._first: np.ndarray | None = first
        self.height, self.width = first.shape[:2]
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / aspect if self._orientation.transposed else aspect

    def frames(self) -> Iterator[np.ndarray]:
        if self._first is None:
            raise VideoError(f"{self._path} has been read already; open it again")
        first, self._first = self._first, None
        yield first
        for frame in self._decoded:
            if frame.shape != first.shape:
                raise VideoError(
                    f"{self._path} changes its frame size from {self.width}x{self.height} to "
                    f"{frame.shape[1]}x{frame.shape[0]} midway; re-encode it to one size"
                )
            yield frame

    def close(self) -> None:
        self._container.close()

    def _count(self) -> int | None:
        """Return the number of frames that the header promises: of the stored ones, as many as the edit list shows."""
        stored, duration = self._stream.frames, self._stream.duration
        if not stored or not duration:
            return stored or None
        return min(stored, max(1, round(duration * self._stream.time_base * self.frame_rate)))

    def _decode(self) -> Iterator[np.ndarray]:
        decoded, end = 0, None
        # a transport stream marks lost packets so, which broadcasts are full of; elsewhere the bytes ran out
        lossy = self._container.format.name == "mpegts"
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt and not lossy:
                    raise VideoError(f"{self._path} is truncated: its data ends within frame {decoded + 1}")
                for frame in packet.decode():
                    decoded += 1
                    if frame.pts is not None:
                        end = frame.pts + (frame.duration or 0)
                    yield self._rgb(frame)
        except av.FFmpegError as error:
            raise VideoError(
                f"{self._path} cannot be decoded after {decoded} of {self.num_frames or 'unknown'} frames: "
                f"{error.strerror}; is the file whole?"
            ) from error
        if self._ends_early(decoded, end):
            raise VideoError(
                f"{self._path} is truncated: its header promises {self.num_frames} frames, "
                f"the data ends after {decoded}"
            )

    def _ends_early(self, decoded: int, end: int | None) -> bool:
        # by time as well as by count: an edit list, or a rate that varies, rightly shows fewer than are stored
        stream = self._stream
        if decoded >= stream.frames or stream.duration is None or end is None:
            return False
        missing = ((stream.start_time or 0) + stream.duration - end) * stream.time_base
        return missing * self.frame_rate > Fraction(1, 2)

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        if self._orientation is None:
            self._orientation = _Orientation.of(frame)
        matrix: int = frame.colorspace
        if matrix == UNSPECIFIED:
            matrix = customary_matrix(frame.width, frame.height).colorspace
        # a target is named for older PyAV, which looks at the source's matrix only where the two differ
        rgb = frame.to_ndarray(format="rgb24", src_colorspace=matrix, dst_colorspace=Colorspace.DEFAULT)
        return self._orientation.apply(rgb)


@dataclass(frozen=True)
class _Orientation:
    """What a display matrix asks for, in quarter turns and mirrorings: players know no others."""

    transposed: bool
    mirrored: bool
    flipped: bool

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "_Orientation":
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls(False, False, False)
        # FFmpeg's row vectors: (x, y) is shown at (ax + cy, bx + dy)
        a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
        if abs(b) > abs(a):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def apply(self, image: np.ndarray) -> np.ndarray:
        image = image.swapaxes(0, 1) if self.transposed else image
        image = image[:, ::-1] if self.mirrored else image
        image = image[::-1] if self.flipped else image
        return np.ascontiguousarray(image)
