"""Copies the source's audio packet by packet, without decoding it."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from hero_rt.errors import VideoError


class AudioCopy:
    """Copies the first audio stream of `source` into `target`, up to the time of the written video.

    Audio stays close to the video, because the muxer keeps video in memory while it waits for audio. So the audio also
    ends with the video, to a packet. Time 0 is the source's first video frame.
    """

    def __init__(self, source: Path, target: "av.container.OutputContainer", path: Path):
        self._path, self._target = source, target
        try:
            self._source = av.open(str(source))
        except (av.FFmpegError, OSError) as error:
            raise self._unreadable(error) from error
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None
        if not self._source.streams.audio:
            return
        template = self._source.streams.audio[0]
        try:
            self._stream = target.add_stream_from_template(template)
        except ValueError as error:
            self._source.close()
            codec = template.codec_context.name if template.codec_context else "unknown"
            raise VideoError(
                f"{path}: {path.suffix} cannot hold the source's {codec} audio; "
                "write .mkv, or leave the audio out with --no-audio"
            ) from error
        video = self._source.streams.video
        start = (video[0].start_time or 0) * video[0].time_base if video else Fraction(0)
        self._packets = self._shifted(template, start)
        self._advance()

    def copy_until(self, end: Fraction) -> None:
        """Copy the packets that begin before `end` seconds."""
        while (packet := self._next) is not None:
            if packet.pts is not None and packet.pts * packet.time_base >= end:
                return
            packet.stream = self._stream
            self._target.mux(packet)
            self._advance()

    def close(self) -> None:
        self._source.close()

    def _shifted(self, template: "av.AudioStream", start: Fraction) -> Iterator[av.Packet]:
        for packet in self._source.demux(template):
            if not packet.size or packet.pts is None:
                continue
            shift = round(start / packet.time_base)
            packet.pts -= shift
            if packet.dts is not None:
                packet.dts -= shift
            # one that ends at 0 is the codec's priming, which the next needs to sound right
            if packet.pts + (packet.duration or 0) >= 0:
                yield packet

    def _advance(self) -> None:
        try:
            self._next = next(self._packets, None)
        except av.FFmpegError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> VideoError:
        reason = getattr(error, "strerror", None) or str(error)
        return VideoError(f"{self._path}: the audio cannot be read: {reason}; leave it out with --no-audio")
