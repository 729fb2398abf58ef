"""Outpaint PIL images with another sampler: `python examples/frames_in_memory.py in/ out/`."""

import sys
from pathlib import Path

from diffusers import UniPCMultistepScheduler
from PIL import Image

from hero_rt import Outpainter

folder, target = map(Path, sys.argv[1:3])
frames = [Image.open(path) for path in sorted(folder.glob("*.png"))]
outpainter = Outpainter.from_pretrained("hero-tiny")
outpainter.scheduler = UniPCMultistepScheduler.from_config(outpainter.scheduler.config)
outpainter.set_progress_bar_config(disable=True)
images = outpainter(frames, task="OPV", ratio=0.25, num_inference_steps=4, output_type="pil").frames
target.mkdir(parents=True, exist_ok=True)
for number, image in enumerate(images):
    image.save(target / f"{number:03}.png")
print(f"wrote {len(images)} images of {images[0].size[0]}x{images[0].size[1]} to {target}")
