"""What an application with engines loads: not the PyTorch model, whose libraries take seconds to import."""

import subprocess
import sys

SCRIPT = """
import sys
import numpy as np
from hero_rt import Outpainter

outpainter = Outpainter.from_engines(sys.argv[1], device="cpu")
frames = outpainter(np.zeros((16, 64, 96, 3), np.uint8), pad=(0, 16, 0, 16), num_inference_steps=1).frames
assert frames.shape == (16, 64, 128, 3), frames.shape
print(*sorted(sys.modules))
"""


def test_engines_run_without_the_networks_and_their_libraries(engine_folder):
    done = subprocess.run([sys.executable, "-c", SCRIPT, engine_folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"torch", "onnxruntime", "diffusers.schedulers", "hero_rt.models.boundary"} <= loaded
    assert not loaded & {"transformers", "diffusers.models", "hero_rt.models.hero", "hero_rt.models.unet", "onnx"}
