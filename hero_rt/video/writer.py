"""Writing clips as they are finished, all or nothing, with the source's audio as it was."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from hero_rt.errors import VideoError

# colour primaries, transfer and matrix as ITU-T H.273 numbers them, and swscale's name of the matrix
_SD = (6, Colorspace.SMPTE170M)
_HD = (1, Colorspace.ITU709)
_HD_FROM = 720  # pixels of height: what players assume where a file says nothing


def create_video(
    path: str | Path,
    width: int,
    height: int,
    frame_rate: Fraction,
    audio_from: str | Path | None = None,
    codec: str = "libx264",
    crf: int = 17,
) -> "VideoWriter":
    """A writer of uint8 RGB frames: to a video file, or to a folder of PNGs where `path` has no suffix (lossless).

    The result appears under its name when the `with` block ends without an error, and not at all otherwise.
    audio_from: a video file whose audio packets are copied, as far as the written frames last.
    Raises VideoError where the target cannot be created.
    """
    if not Path(path).suffix:
        return ImageFolderWriter(Path(path), width, height)
    return VideoFileWriter(Path(path), width, height, frame_rate, audio_from, codec, crf)


class VideoWriter:
    """Appends frames; `with` finishes the clip or takes back what was written."""

    def __init__(self, path: Path, width: int, height: int):
        self.path, self.num_frames = path, 0
        self._shape = (height, width, 3)
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")

    def write(self, frames: np.ndarray) -> None:
        """Append uint8 [N, H, W, 3], or one [H, W, 3]. Raises VideoError (disk full, wrong size)."""
        frames = frames[None] if frames.ndim == 3 else frames
        if frames.dtype != np.uint8 or frames.shape[1:] != self._shape:
            raise VideoError(
                f"{self.path} takes uint8 frames {list(self._shape)}, got {frames.dtype}{list(frames.shape[1:])}"
            )
        for frame in frames:
            try:
                self._write(frame)
            except (av.FFmpegError, OSError) as error:
                raise self._failure(error) from error
            self.num_frames += 1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self._finish()
        except (av.FFmpegError, OSError) as failure:
            self._discard()
            raise self._failure(failure) from failure

    def _write(self, frame: np.ndarray) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def _discard(self) -> None:
        raise NotImplementedError

    def _failure(self, error: Exception) -> VideoError:
        reason = getattr(error, "strerror", None) or str(error)
        return VideoError(f"{self.path} cannot be written after {self.num_frames} frames: {reason}")


class ImageFolderWriter(VideoWriter):
    """000000.png, 000001.png, ... in a new folder."""

    def __init__(self, path: Path, width: int, height: int):
        super().__init__(path, width, height)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise VideoError(f"{path} exists and is not an empty folder; choose another name, or add .mp4 for a video")
        try:
            self._temporary.mkdir(parents=True)
        except OSError as error:
            raise self._failure(error) from error

    def _write(self, frame: np.ndarray) -> None:
        Image.fromarray(frame).save(self._temporary / f"{self.num_frames:06d}.png")

    def _finish(self) -> None:
        if self.path.exists():
            self.path.rmdir()
        self._temporary.rename(self.path)

    def _discard(self) -> None:
        shutil.rmtree(self._temporary)


class VideoFileWriter(VideoWriter):
    """An encoded file. yuv420p, or yuv444p where a side is odd: 4:2:0 halves both."""

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        frame_rate: Fraction,
        audio_from: str | Path | None,
        codec: str,
        crf: int,
    ):
        super().__init__(path, width, height)
        self._frame_rate = frame_rate
        try:
            self._container = av.open(str(self._temporary), "w")
        except (av.FFmpegError, OSError, ValueError) as error:
            self._temporary.unlink(missing_ok=True)
            raise self._failure(error) from error
        self._audio = None
        try:
            self._stream = self._container.add_stream(codec, rate=frame_rate, options={"crf": str(crf)})
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
            code, self._colorspace = _HD if height >= _HD_FROM else _SD
            context = self._stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = code
            context.color_range = ColorRange.MPEG
            if audio_from is not None:
                self._audio = _AudioCopy(Path(audio_from), self._container, path)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise self._failure(error) from error
        except VideoError:
            self._discard()
            raise

    def _write(self, frame: np.ndarray) -> None:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
            format=self._stream.pix_fmt, dst_colorspace=self._colorspace, dst_color_range=ColorRange.MPEG
        )
        picture.pts, picture.time_base = self.num_frames, 1 / self._frame_rate
        self._container.mux(self._stream.encode(picture))
        if self._audio is not None:
            self._audio.copy_until((self.num_frames + 1) / self._frame_rate)

    def _finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        if self._audio is not None:
            self._audio.close()
        os.replace(self._temporary, self.path)

    def _discard(self) -> None:
        # closing writes the trailer: on a full disk that fails again, and there is nothing left to save
        with suppress(av.FFmpegError, OSError):
            self._container.close()
        if self._audio is not None:
            self._audio.close()
        self._temporary.unlink(missing_ok=True)


class _AudioCopy:
    """The source's first audio stream, packet by packet, no further than the video has come.

    Kept close to the video, or the muxer would hold the video back in memory while it waits for audio.
    """

    def __init__(self, source: Path, target: "av.container.OutputContainer", path: Path):
        self._source = av.open(str(source))
        self._target = target
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None
        if not self._source.streams.audio:
            return
        template = self._source.streams.audio[0]
        try:
            self._stream = target.add_stream_from_template(template)
            target.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            self._source.close()
            raise VideoError(
                f"{path}: {path.suffix} cannot hold the source's {template.codec_context.name} audio; "
                "write .mkv, or leave the audio out with --no-audio"
            ) from error
        self._packets = (packet for packet in self._source.demux(template) if packet.size > 0)
        self._next = next(self._packets, None)

    def copy_until(self, end: Fraction) -> None:
        """Copy the packets that begin before `end` seconds."""
        while (packet := self._next) is not None:
            if packet.pts is not None and packet.pts * packet.time_base >= end:
                return
            packet.stream = self._stream
            self._target.mux(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._source.close()
