"""Feed frames one by one, as a webcam or a socket delivers them: `python examples/live_session.py in.mp4 out/`.

A session returns finished chunks as soon as a window is full. Another thread may call `session.cancel()`.
"""

import sys

from hero_rt import Outpainter, OutpaintRequest
from hero_rt.video import create_video, open_video

source, target = sys.argv[1:3]
request = OutpaintRequest.from_keywords(pad=(0, 32, 0, 32), steps=4, mode="stream", overlap=4)
outpainter = Outpainter.from_pretrained("hero-tiny")

with open_video(source) as camera:
    session = outpainter.session(camera, request, on_event=print)
    canvas = session.plan.canvas
    with create_video(target, canvas.width, canvas.height, camera.frame_rate) as writer:
        for frame in camera.frames():  # uint8 [h, w, 3]
            for chunk in session.push(frame):
                writer.write(chunk)
        for chunk in session.finish():
            writer.write(chunk)
print(f"wrote {target}: {writer.num_frames} frames")
