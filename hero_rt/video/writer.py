"""Writes clips frame by frame, with the source's audio. A failure leaves no file."""

import os
import shutil
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange
from PIL import Image

from hero_rt.atomic import publish
from hero_rt.errors import VideoError
from hero_rt.request import OutputOptions, is_image_folder
from hero_rt.video.audio import AudioCopy
from hero_rt.video.colour import customary_matrix


def create_video(
    path: str | Path,
    width: int,
    height: int,
    frame_rate: Fraction,
    options: OutputOptions | None = None,
    audio_from: str | Path | None = None,
    pixel_aspect: Fraction = Fraction(1),
) -> "VideoWriter":
    """Open a writer of uint8 RGB frames. The result appears only when the `with` block ends without an error.

    Args:
        path: a video file; without a suffix, or with a slash at its end, a folder of PNG files (lossless).
        width: of the frames.
        height: of the frames.
        frame_rate: frames a second.
        options: quality and audio.
        audio_from: a video file whose audio packets are copied, up to the end of the written frames.
        pixel_aspect: width to height of a pixel.

    Raises:
        UsageError: an option has no effect.
        VideoError: the file cannot be created, for instance because its folder does not exist.
    """
    options = options or OutputOptions()
    options.check_format(path)
    if is_image_folder(path):
        return ImageFolderWriter(Path(path), width, height)
    audio = audio_from if options.audio else None
    return VideoFileWriter(Path(path), width, height, frame_rate, options.crf, audio, pixel_aspect)


class VideoWriter(ABC):
    """Appends frames. `with` finishes the clip, or deletes it after an error."""

    def __init__(self, path: Path, width: int, height: int):
        self.path, self.num_frames = path, 0
        self._shape = (height, width, 3)
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")

    def write(self, frames: np.ndarray) -> None:
        """Append uint8 [N, H, W, 3], or one [H, W, 3]. Raises VideoError (disk full, other frames)."""
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with ExitStack() as undo:
            undo.callback(self._discard)
            if kind is not None:
                return
            if self.num_frames == 0:
                raise VideoError(f"{self.path} is not written: there were no frames")
            try:
                self._finish()
            except (av.FFmpegError, OSError) as failure:
                raise self._failure(failure) from failure
            undo.pop_all()

    @abstractmethod
    def _write(self, frame: np.ndarray) -> None: ...

    @abstractmethod
    def _finish(self) -> None:
        """Make the temporary complete and give it its name."""

    @abstractmethod
    def _discard(self) -> None:
        """Leave nothing behind."""

    def _failure(self, error: Exception) -> VideoError:
        reason = getattr(error, "strerror", None) or str(error)
        progress = f" after {self.num_frames} frames" if self.num_frames else ""
        return VideoError(f"{self.path} cannot be written{progress}: {reason}")


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
        publish(self._temporary, self.path)

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
        crf: int,
        audio_from: str | Path | None,
        pixel_aspect: Fraction,
    ):
        super().__init__(path, width, height)
        if path.is_dir():
            raise VideoError(f"{path} is a folder; choose another name for the video")
        if not path.absolute().parent.is_dir():
            raise VideoError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
        # the index first, so that a browser can start before it has the whole file
        options = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov", ".m4v") else {}
        self._frame_rate = frame_rate
        self._audio: AudioCopy | None = None
        try:
            self._container = av.open(str(self._temporary), "w", container_options=options)
            self._stream = self._container.add_stream("libx264", rate=frame_rate, options={"crf": str(crf)})
        except ValueError as error:
            raise VideoError(f"{path} cannot be written: {error}; use .mp4, .mov or .mkv") from error
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        matrix = customary_matrix(width, height)
        self._colorspace = matrix.colorspace
        context = self._stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = matrix.code
        context.color_range = ColorRange.MPEG
        context.sample_aspect_ratio = pixel_aspect
        if audio_from is not None:
            self._audio = AudioCopy(Path(audio_from), self._container, path)
        try:
            # now, not with the first frame: a folder that cannot be written to should fail before the model runs
            self._container.start_encoding()
        except (av.FFmpegError, OSError) as error:
            self._discard()
            raise self._failure(error) from error

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
        publish(self._temporary, self.path)

    def _discard(self) -> None:
        # closing writes the trailer: on a full disk that fails again, and there is nothing left to save
        with suppress(av.FFmpegError, OSError):
            self._container.close()
        if self._audio is not None:
            self._audio.close()
        self._temporary.unlink(missing_ok=True)
