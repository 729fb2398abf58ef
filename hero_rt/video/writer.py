"""Writing clips as they are finished, all or nothing, with the source's audio as it was."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from hero_rt.errors import VideoError

_SPEC = {False: 6, True: 1}  # colour primaries, transfer and matrix codes (ITU-T H.273): SMPTE 170M, BT.709


class VideoWriter:
    """Writes uint8 RGB frames to a video file, or to a folder of PNGs where `path` has no suffix (lossless).

    The file appears under its name when the `with` block ends without an error, and not at all otherwise.
    audio_from: a video file whose audio packets are copied, as far as the written frames last.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        frame_rate: Fraction,
        audio_from: str | Path | None = None,
        codec: str = "libx264",
        crf: int = 17,
    ):
        self.path = Path(path)
        self.num_frames = 0
        self._size, self._frame_rate = (height, width), frame_rate
        self._as_images = not self.path.suffix
        self._temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}")
        self._audio: Iterator[av.Packet] | None = None
        self._audio_container = None
        self._container = None
        try:
            if self._as_images:
                self._temporary.mkdir(parents=True)
            else:
                self._open(width, height, codec, crf, audio_from)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._discard()
            raise self._failure(error) from error

    def _open(self, width: int, height: int, codec: str, crf: int, audio_from: str | Path | None) -> None:
        self._container = av.open(str(self._temporary), "w")
        self._stream = self._container.add_stream(codec, rate=self._frame_rate, options={"crf": str(crf)})
        self._stream.width, self._stream.height = width, height
        # 4:2:0 halves both sides; only 4:4:4 holds an odd size
        self._stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        high_definition = height >= 720
        self._colorspace = Colorspace.ITU709 if high_definition else Colorspace.SMPTE170M
        context = self._stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _SPEC[high_definition]
        context.color_range = ColorRange.MPEG
        if audio_from is not None:
            self._open_audio(Path(audio_from))

    def _open_audio(self, path: Path) -> None:
        source = av.open(str(path))
        self._audio_container = source
        if not source.streams.audio:
            return
        template = source.streams.audio[0]
        try:
            self._audio_stream = self._container.add_stream_from_template(template)
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"{self.path}: {self.path.suffix} cannot hold the source's {template.codec_context.name} audio; "
                "write .mkv, or leave the audio out with --no-audio"
            ) from error
        self._audio = (packet for packet in source.demux(template) if packet.size > 0)
        self._pending = next(self._audio, None)

    def write(self, frames: np.ndarray) -> None:
        """Append uint8 [N, H, W, 3], or one [H, W, 3]. Raises VideoError (disk full, wrong size)."""
        if frames.ndim == 3:
            frames = frames[None]
        if frames.dtype != np.uint8 or frames.shape[1:] != (*self._size, 3):
            height, width = self._size
            raise VideoError(f"{self.path} takes uint8[N, {height}, {width}, 3], got {frames.dtype}{list(frames.shape)}")
        try:
            for frame in frames:
                self._write_one(frame)
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def _write_one(self, frame: np.ndarray) -> None:
        if self._as_images:
            Image.fromarray(frame).save(self._temporary / f"{self.num_frames:06d}.png")
        else:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
                format=self._stream.pix_fmt, dst_colorspace=self._colorspace, dst_color_range=ColorRange.MPEG
            )
            picture.pts = self.num_frames
            picture.time_base = 1 / self._frame_rate
            self._container.mux(self._stream.encode(picture))
            self._copy_audio()
        self.num_frames += 1

    def _copy_audio(self) -> None:
        """Up to the last frame's end: kept close to the video, or the muxer would hold the video back in memory."""
        end = (self.num_frames + 1) / self._frame_rate
        while self._audio is not None and self._pending is not None:
            packet = self._pending
            if packet.pts is not None and packet.pts * packet.time_base >= end:
                return
            packet.stream = self._audio_stream
            self._container.mux(packet)
            self._pending = next(self._audio, None)

    def close(self) -> None:
        """Finish the file and give it its name. Raises VideoError."""
        try:
            if self._as_images:
                if self.path.is_dir() and not any(self.path.iterdir()):
                    self.path.rmdir()
                self._temporary.rename(self.path)
                return
            self._container.mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._temporary, self.path)
        except (av.FFmpegError, OSError) as error:
            self._discard()
            raise self._failure(error) from error
        if self._audio_container is not None:
            self._audio_container.close()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def _discard(self) -> None:
        for container in (self._container, self._audio_container):
            if container is not None:
                try:
                    container.close()
                except (av.FFmpegError, OSError):  # closing writes the trailer: on a full disk that fails again
                    continue
        if self._temporary.is_dir():
            for image in self._temporary.iterdir():
                image.unlink()
            self._temporary.rmdir()
        self._temporary.unlink(missing_ok=True)

    def _failure(self, error: BaseException) -> VideoError:
        if isinstance(error, VideoError):
            return error
        reason = getattr(error, "strerror", None) or str(error)
        return VideoError(f"{self.path} cannot be written after {self.num_frames} frames: {reason}")
