"""The results of an outpainter: a clip, or a stream of chunks. Either can be saved as a video."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image

from hero_rt.closable import Closable
from hero_rt.errors import UsageError
from hero_rt.request import OutputOptions
from hero_rt.session import OutpaintSession
from hero_rt.spec.canvas import Canvas
from hero_rt.video import VideoSource, VideoWriter, create_video, to_frames

OutputType = Literal["uint8", "np", "pt", "pil", "latent"]


@dataclass(frozen=True)
class OutpaintOutput:
    """An outpainted clip.

    Attributes:
        frames: by `output_type`: "uint8": uint8 [N, H, W, 3] RGB; "np": FP32 [N, H, W, 3] in [0, 1]; "pt": FP32
            [N, 3, H, W] in [0, 1]; "pil": a list of PIL images; "latent": clean latents FP32 [N, 4, h, w].
        frame_rate: the source's, frames a second.
        canvas: where the source lies in the frames.
        pixel_aspect: the source's shape of a pixel, width to height.
        audio_file: the file whose audio belongs to the clip, or None.
    """

    frames: Any = field(repr=False)
    frame_rate: Fraction
    canvas: Canvas
    pixel_aspect: Fraction = Fraction(1)
    audio_file: Path | None = None

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write a video with the frame rate, pixel shape and audio of the source.

        A video is encoded with loss, so its source pixels are not exact. A PNG folder is exact.

        Args:
            path: the video, in a folder that exists; without a suffix, a folder of PNG files.
            options: fields of `OutputOptions`: crf, audio.

        Returns:
            The path.

        Raises:
            UsageError: the frames are latents, or an option has no effect.
            VideoError: the file cannot be written.
        """
        if isinstance(self.frames, torch.Tensor) and self.frames.shape[1] != 3:
            raise UsageError("latents are no frames; call the outpainter with another output_type to save a video")
        with video_writer(path, self, OutputOptions.parse(options)) as writer:
            writer.write(to_frames(self.frames))
        return Path(path)


class OutpaintStream(Closable, Iterator[np.ndarray]):
    """Yields chunks uint8 [n, H, W, 3], each when its window is finished. It is a context manager.

    One thread iterates. Any thread may call `cancel` or `close`: the iterating thread then gets Cancelled. To iterate
    again after the end raises UsageError.

    Attributes:
        canvas: as of `OutpaintOutput`.
        num_frames: that the stream yields; None if unknown.
        frame_rate: as of `OutpaintOutput`.
        pixel_aspect: as of `OutpaintOutput`.
        audio_file: as of `OutpaintOutput`.
    """

    def __init__(self, session: OutpaintSession, source: VideoSource):
        self.canvas, self.num_frames = session.plan.canvas, session.plan.num_frames
        self.frame_rate, self.pixel_aspect = source.frame_rate, source.pixel_aspect
        self.audio_file = source.audio_file
        self._session, self._source, self._chunks = session, source, session.run(source.frames())
        self._ended = False
        self._iterating = threading.RLock()

    def __iter__(self) -> Self:
        if self._ended:
            raise UsageError("the stream has ended: its frames were taken, or it was closed; call stream() again")
        return self

    def __next__(self) -> np.ndarray:
        with self._iterating:
            try:
                self._session.check_cancelled()
                return next(self._chunks)
            except BaseException:  # the end, too
                self._end()
                raise

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the remaining chunks as `OutpaintOutput.save` does, in memory that does not grow."""
        chunks = iter(self)
        with video_writer(path, self, OutputOptions.parse(options)) as writer:
            for frames in chunks:
                writer.write(frames)
        return Path(path)

    def cancel(self) -> None:
        """Stop before the next step."""
        self._session.cancel()

    def close(self) -> None:
        """Cancel, wait for the step under way, and close the source. Closing twice is harmless."""
        self.cancel()
        with self._iterating:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._source.close()


def video_writer(path: str | Path, clip: OutpaintOutput | OutpaintStream, options: OutputOptions) -> VideoWriter:
    """Open a writer for frames that belong to `clip`. Raises UsageError, VideoError."""
    canvas = clip.canvas
    return create_video(path, canvas.width, canvas.height, clip.frame_rate, options, clip.audio_file, clip.pixel_aspect)


def as_type(frames: np.ndarray, output_type: OutputType) -> Any:
    """Convert uint8 [N, H, W, 3] to an `output_type` other than "latent"."""
    if output_type == "uint8":
        return frames
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in frames]
    if output_type == "np":
        return frames.astype(np.float32) / 255
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
