"""Widen a video of any length in flat memory: `python examples/stream_long_video.py in.mp4 out.mp4`.

Each window after the first starts from the last finished frames, so the video stays consistent.
"""

import sys

from hero_rt import Outpainter

source, target = sys.argv[1:3]
outpainter = Outpainter.from_pretrained("hero-tiny")
stream = outpainter.stream(source, pad=(0, 32, 0, 32), num_inference_steps=4)
print(f"{stream.num_frames or 'unknown number of'} frames at {stream.frame_rate} a second")
stream.save(target)  # or: for frames in stream: ... uint8 [n, H, W, 3], as each window is finished
