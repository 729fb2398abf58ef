"""What every suite outpaints: a camera panning over smooth noise, as long as asked for, made frame by frame."""

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from hero_rt.request import Padding
from hero_rt.spec.profile import Profile
from hero_rt.video import VideoSource

SPEED = 4  # pixels a frame
FRAME_RATE = Fraction(25)


class Pan(VideoSource):
    """`num_frames` frames of `width` x `height`; the scene wraps round, so that any length costs the same memory."""

    def __init__(self, width: int, height: int, num_frames: int):
        self.width, self.height, self.num_frames = width, height, num_frames
        self.frame_rate = FRAME_RATE
        noise = np.random.default_rng(0).normal(size=(height, 4 * width, 3)).astype(np.float32)
        scene = cv2.GaussianBlur(np.concatenate([noise, noise[:, :width]], axis=1), (0, 0), 6)
        self._scene = (128 + 48 * scene / scene.std()).clip(0, 255).astype(np.uint8)

    def frames(self) -> Iterator[np.ndarray]:
        for t in range(self.num_frames or 0):
            left = SPEED * t % (4 * self.width)
            yield np.ascontiguousarray(self._scene[:, left : left + self.width])

    def stack(self) -> np.ndarray:
        """uint8 [N, h, w, 3]."""
        return np.stack(list(self.frames()))


def pan_for(profile: Profile, num_frames: int) -> tuple[Pan, Padding]:
    """A clip for the middle three quarters of the profile's width, and what to generate around it (OPV 0.25)."""
    side = profile.width // 8
    return Pan(profile.width - 2 * side, profile.height, num_frames), Padding(left=side, right=side)
