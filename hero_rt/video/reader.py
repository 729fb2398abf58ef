"""Reading clips frame by frame, in RGB, the right way up."""

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from hero_rt.errors import UsageError, VideoError

DEFAULT_FRAME_RATE = Fraction(8)  # of images and arrays, which have none of their own
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class VideoSource:
    """A clip that yields its frames once, lazily. width and height are those of the frames it yields.

    num_frames is None where the container does not say; has_audio tells whether there is a stream to remux.
    """

    width: int
    height: int
    frame_rate: Fraction
    num_frames: int | None
    has_audio = False

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 [h, w, 3] RGB, one after the other. Raises VideoError where the clip cannot be read to its end."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the file."""

    def __enter__(self) -> "VideoSource":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(video: "str | Path | np.ndarray | VideoSource", frame_rate: Fraction | None = None) -> VideoSource:
    """A video file, a folder of images (in natural order) or uint8 [N, h, w, 3] as a VideoSource.

    frame_rate is that of images and arrays (8 by default); a file has its own. Raises VideoError.
    """
    if isinstance(video, VideoSource):
        return video
    if isinstance(video, np.ndarray):
        return FrameArray(video, frame_rate or DEFAULT_FRAME_RATE)
    path = Path(video)
    if not path.exists():
        raise VideoError(f"{path} does not exist")
    return ImageFolder(path, frame_rate or DEFAULT_FRAME_RATE) if path.is_dir() else VideoFile(path)


class FrameArray(VideoSource):
    """uint8 [N, h, w, 3] in memory."""

    def __init__(self, frames: np.ndarray, frame_rate: Fraction):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise UsageError(f"video array is {frames.dtype}{list(frames.shape)}, expected uint8[N, h, w, 3]")
        if len(frames) == 0:
            raise VideoError("video array has zero frames")
        self._frames, self.frame_rate, self.num_frames = frames, frame_rate, len(frames)
        self.height, self.width = frames.shape[1:3]

    def frames(self) -> Iterator[np.ndarray]:
        return iter(self._frames)


class ImageFolder(VideoSource):
    """Images of one size; frame10 comes after frame9."""

    def __init__(self, folder: Path, frame_rate: Fraction):
        self._paths = sorted(
            (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order
        )
        if not self._paths:
            raise VideoError(f"folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        self.frame_rate, self.num_frames = frame_rate, len(self._paths)
        self.height, self.width = self._read(self._paths[0]).shape[:2]

    def frames(self) -> Iterator[np.ndarray]:
        for path in self._paths:
            frame = self._read(path)
            if frame.shape[:2] != (self.height, self.width):
                raise VideoError(
                    f"{path} is {frame.shape[1]}x{frame.shape[0]}, {self._paths[0].name} is "
                    f"{self.width}x{self.height}; all images of a clip must have one size"
                )
            yield frame

    @staticmethod
    def _read(path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise VideoError(f"{path} cannot be read as an image: {error}") from error


class VideoFile(VideoSource):
    """A file that FFmpeg reads. Rotation metadata is applied; frame_rate is the average rate, exactly."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._container = av.open(str(path))
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"{path} cannot be opened as a video: {_reason(error)}; is it a whole video file?"
            ) from error
        try:
            self._open_stream()
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self) -> None:
        if not self._container.streams.video:
            raise VideoError(f"{self._path} has no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.has_audio = bool(self._container.streams.audio)
        self.frame_rate = self._stream.average_rate or self._stream.guessed_rate or DEFAULT_FRAME_RATE
        self.num_frames = self._stream.frames or None
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise VideoError(f"{self._path} has zero frames")
        self._first: np.ndarray | None = first
        self.height, self.width = first.shape[:2]

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

    def _decode(self) -> Iterator[np.ndarray]:
        packets = 0
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    # metadata turns counterclockwise, as np.rot90 does; players know quarter turns only
                    yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
        except av.FFmpegError as error:
            raise VideoError(
                f"{self._path} cannot be decoded after {packets} of {self.num_frames or 'unknown'} frames: "
                f"{_reason(error)}"
            ) from error
        # counted in packets: an edit list may rightly drop decoded frames
        if self.num_frames and packets < self.num_frames:
            raise VideoError(
                f"{self._path} is truncated: its header promises {self.num_frames} frames, "
                f"the data ends after {packets}"
            )


class FirstFrames(VideoSource):
    """At most the first `limit` frames of another source."""

    def __init__(self, source: VideoSource, limit: int):
        if limit < 1:
            raise UsageError(f"max frames is {limit}; it must be at least 1")
        self._source, self._limit = source, limit
        self.width, self.height, self.frame_rate = source.width, source.height, source.frame_rate
        self.has_audio = source.has_audio
        self.num_frames = min(source.num_frames, limit) if source.num_frames else None

    def frames(self) -> Iterator[np.ndarray]:
        return islice(self._source.frames(), self._limit)

    def close(self) -> None:
        self._source.close()


def _natural_order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
