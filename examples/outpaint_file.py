"""Widen a video to 16:9: `python examples/outpaint_file.py in.mp4 out.mp4`."""

import sys

from hero_rt import Outpainter

source, target = sys.argv[1:3]
outpainter = Outpainter.from_pretrained("hero-tiny")
result = outpainter(source, aspect="16:9", num_inference_steps=10, seed=0)
print(f"wrote {result.save(target)}: {result.canvas.describe()}")
