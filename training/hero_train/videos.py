"""Reads training windows from folders of videos, in an order that depends on a seed."""

import logging
from collections import deque
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from torch.utils.data import Dataset

from hero_rt.errors import UsageError

VIDEO_SUFFIXES = {".mp4", ".mkv", ".webm", ".mov", ".avi"}
MAX_ATTEMPTS = 50  # undecodable videos in a row, before the folder is refused

logger = logging.getLogger(__name__)


class VideoWindows(Dataset[tuple[np.ndarray, int]]):
    """Item i is a window uint8 [frames, size, size, 3] and the number of skipped videos. It depends only on (seed, i).

    Each folder has an equal share. A window is cut at a random time, scale, place and mirror; a video that does not
    decode, or is shorter than the window, is skipped with a warning and another is drawn.
    Raises UsageError if a folder holds no video, or only broken ones.
    """

    def __init__(self, folders: list[Path], frames: int, size: int, seed: int, length: int):
        self.folders = [_videos(folder) for folder in folders]
        self.frames, self.size, self.seed, self.length = frames, size, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        rng = np.random.default_rng((self.seed, index))
        for skipped in range(MAX_ATTEMPTS):
            folder = self.folders[rng.integers(len(self.folders))]
            path = folder[rng.integers(len(folder))]
            try:
                window = read_window(path, self.frames, rng)
            except (av.error.FFmpegError, ValueError) as error:
                logger.warning("skipped %s: %s", path, error)
                continue
            return augment(window, self.size, rng), skipped
        raise UsageError(f"{MAX_ATTEMPTS} videos in a row could not be read; the last was {path}")


def read_window(path: Path, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Read `frames` successive frames from a random time on, uint8 [frames, h, w, 3].

    Raises ValueError if there are fewer frames, and av.error.FFmpegError if the file does not decode.
    """
    window: deque[av.VideoFrame] = deque(maxlen=frames)
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("it has no video stream")
        stream = container.streams.video[0]
        start = 0
        if stream.duration and stream.average_rate and stream.time_base:
            ticks = 1 / (stream.average_rate * stream.time_base)  # duration of a frame
            total = round(stream.duration / ticks)
            first = int(rng.random() * (total - frames + 1)) if total > frames else 0
            start = (stream.start_time or 0) + int((first - Fraction(1, 2)) * ticks)
            container.seek(max(0, start), stream=stream)  # seeks to a key frame, which may be the first frame
        for frame in container.decode(stream):
            window.append(frame)
            if len(window) == frames and (window[0].pts is None or window[0].pts >= start):
                break
        if len(window) < frames:
            raise ValueError(f"it has only {len(window)} frames after that time; {frames} are needed")
        # the last ones, if the container states more frames than it holds
        return np.stack([frame.to_ndarray(format="rgb24") for frame in window])


def augment(window: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a random square of at least 60% of the shorter side; mirror and reverse it half the time."""
    height, width = window.shape[1:3]
    shorter = min(height, width)
    side = round(rng.uniform(min(max(size, 0.6 * shorter), shorter), shorter))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    square = window[:, top : top + side, left : left + side]
    if rng.random() < 0.5:
        square = square[:, :, ::-1]
    if rng.random() < 0.5:
        square = square[::-1]  # time
    flags = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.stack([cv2.resize(np.ascontiguousarray(frame), (size, size), interpolation=flags) for frame in square])


def _videos(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise UsageError(f"no video ({', '.join(sorted(VIDEO_SUFFIXES))}) under {folder}")
    return found
