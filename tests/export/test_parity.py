"""ONNX Runtime against the eager model in FP32, on a real clip's own intermediates."""

import numpy as np
import pytest
import torch

from hero_rt import Outpainter
from hero_rt.engines import Observer, open_engines
from hero_rt.engines.eager import EagerEngines
from hero_rt.spec.boundary import SUBMODULES
from hero_rt.spec.canvas import Canvas
from hero_rt.spec.profile import Profile
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import clip_pixels, window_inputs
from tests.clips import small_clip

PAD = (0, 24, 0, 24)  # 80x64 -> 128x64
PER_OUTPUT, END_TO_END = 1e-4, 1e-3  # relative L2


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


@pytest.fixture(scope="module")
def ort(engine_folder):
    engines = open_engines(engine_folder, "cpu")
    yield engines
    engines.close()


@pytest.fixture(scope="module")
def real_inputs(tiny) -> dict[str, dict[str, torch.Tensor]]:
    """What each submodule is given when the eager runtime prepares and denoises a real clip."""
    clip = small_clip()
    seen: dict[str, dict[str, torch.Tensor]] = {}

    class Watch(Observer):
        def before_run(self, engine, binding, inputs):
            seen[engine.submodule] = {**binding.constants, **inputs}

    outpainter = Outpainter(EagerEngines(tiny))
    outpainter.engines.observers.append(Watch())
    outpainter.set_progress_bar_config(disable=True)
    outpainter(clip, pad=PAD, num_inference_steps=2, seed=0)
    canvas = Canvas(80, 64, *PAD)
    frames = window_inputs(canvas, clip, optical_flow(clip), None, tiny.config.canvas_fill).frames
    assert torch.equal(seen["semantic"]["pixel_values"], clip_pixels(frames))
    return seen


@pytest.mark.parametrize("guided", [pytest.param(False, id="plain"), pytest.param(True, id="cfg")])
@pytest.mark.parametrize("submodule", SUBMODULES)
def test_submodule_equals_eager(ort, tiny, real_inputs, submodule, guided):
    profile = Profile(128, 64, 16, guided)
    inputs = real_inputs[submodule]
    got = ort.open(submodule, profile)(**inputs)
    want = EagerEngines(tiny).open(submodule, profile)(**inputs)
    assert got.keys() == want.keys()
    worst = {name: relative_error(got[name], want[name]) for name in want}
    assert max(worst.values()) < PER_OUTPUT, worst


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_latents_after_ten_steps_equal_eager_on_a_real_clip(ort, tiny, guidance_scale):
    clip = small_clip()
    results = []
    for engines in (ort, EagerEngines(tiny)):
        outpainter = Outpainter(engines)
        outpainter.set_progress_bar_config(disable=True)
        arguments = {"pad": PAD, "num_inference_steps": 10, "guidance_scale": guidance_scale}
        latents = outpainter(clip, generator=torch.Generator().manual_seed(7), output_type="latent", **arguments).frames
        frames = outpainter(clip, generator=torch.Generator().manual_seed(7), **arguments).frames
        results.append((latents, frames))
    (got, got_frames), (want, want_frames) = results
    assert relative_error(got, want) < END_TO_END
    assert np.abs(got_frames.astype(int) - want_frames).max() <= 1


def test_two_bindings_of_one_engine_do_not_meet(ort, real_inputs):
    engine = ort.open("unet_step", Profile(128, 64, 16))
    inputs = dict(real_inputs["unet_step"])
    step = {name: inputs.pop(name) for name in ("sample", "timestep")}
    with engine.bind(inputs) as mine, engine.bind(inputs | {"condition": inputs["condition"] * 0}) as other:
        first = engine.run(mine, **step)["noise_pred"]
        assert relative_error(engine.run(other, **step)["noise_pred"], first) > 1e-3
        assert torch.equal(engine.run(mine, **step)["noise_pred"], first)
