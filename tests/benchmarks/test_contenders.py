"""What is timed: engines built once and kept, baselines always there, formats that cannot run said with the reason."""

import pytest
import torch

from benchmarks import contenders
from benchmarks.clip import pan_for, weights_bytes
from benchmarks.contenders import BuiltEngines, UncachedEngines, contender_names
from benchmarks.roofline import boundary_bytes
from benchmarks.settings import Settings
from benchmarks.suites.clips import run_clip
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import EngineError
from hero_rt.spec.profile import Profile
from tests.benchmarks.test_suites import LEVELS, REFERENCE, WIDTHS

SETTINGS = Settings(device="cpu", size=("128x64",))


def test_the_uncached_baseline_recomputes_what_the_cached_one_binds(tiny):
    profile = Profile(64, 64, 16)
    clip, request = pan_for(profile, 16, steps=3)
    calls = []
    hooks = [
        tiny[part].register_forward_hook(lambda *_, part=part: calls.append(part))
        for part in ("refnet", "flow_encoder")
    ]
    cached = run_clip(EagerEngines(tiny), clip, request)
    assert sorted(calls) == ["flow_encoder", "refnet"]
    calls.clear()
    uncached = run_clip(UncachedEngines(tiny), clip, request)
    for hook in hooks:
        hook.remove()
    assert sorted(calls) == ["flow_encoder"] * 3 + ["refnet"] * 3
    assert (cached.latents - uncached.latents).norm() < 1e-5 * cached.latents.norm()
    assert min(cached.phases.values()) > 0


@pytest.mark.parametrize(
    ("only", "names"),
    [
        pytest.param(None, ["eager-cached", "eager-uncached", "compile", "onnxruntime", "aoti"], id="all"),
        pytest.param(("aoti-max-autotune",), ["eager-cached", "eager-uncached", "aoti-max-autotune"], id="one"),
    ],
)
def test_both_baselines_are_always_there(only, names):
    found = contender_names(SETTINGS.model_copy(update={"only": only or ()}), compiled=True)
    assert found[:2] == names[:2]
    assert set(names) <= set(found)


def test_engines_are_built_for_every_profile_of_a_canvas_and_opened_from_their_folder(
    engine_folder, monkeypatch, tmp_path
):
    asked = []

    def build(settings, folder, profiles, jobs):
        asked.append((settings.format, settings.dtype, sorted(map(str, profiles))))
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(engine_folder)

    monkeypatch.setattr(contenders, "build_engines", build)
    engines = BuiltEngines(SETTINGS.model_copy(update={"cache": tmp_path}), "onnxruntime")
    step = engines.open("unet_step", Profile(128, 64, 16))
    assert engines.open("unet_step", Profile(128, 64, 16)) is step
    assert engines.open("vae_decoder", Profile(128, 64, 16, guided=True)).outputs["frames"].shape == (16, 3, 64, 128)
    assert asked == [("onnxruntime", "fp32", ["128x64x16", "128x64x16-cfg"])]
    graphs = [path for path in engine_folder.glob("*.onnx") if "-cfg" not in path.name]
    weights = list(engine_folder.glob("*.data"))
    assert len(graphs) == len(weights) == 6
    stored = weights_bytes(engines.folder(Profile(128, 64, 16)), Profile(128, 64, 16))
    assert stored == sum(path.stat().st_size for path in (*graphs, *weights))
    engines.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where ONNX Runtime has no CUDA provider")
def test_a_format_that_would_run_elsewhere_is_refused():
    on_gpu = Settings(device="cuda")
    with pytest.raises(EngineError, match="onnxruntime as it is installed here runs on the CPU only"):
        BuiltEngines(on_gpu, "onnxruntime")


def test_what_crosses_boundaries_is_counted_once():
    profile = Profile(64, 64, 16)
    clip = sum(16 * (1 + 4 + 4) * WIDTHS[level] for level in LEVELS)  # clip_v, openclip_k, openclip_v
    residuals = 16 * (3 * 32 * 64 + 32 * 16 + 2 * 32 * 16 + 32 * 4 + 2 * 48 * 4 + 48 * 1 + 3 * 48 * 1)
    pixels = 2 * 16 * 3 * 64 * 64  # frames, flow_mask
    small = 16 * (3 * 224 * 224 + (1 + 4) * 64)  # pixel_values, the CLIP tokens
    latent = 16 * 64 * (4 + 4 + 4 + 5) + 1  # latents, sample, noise_pred, condition; timestep
    want = REFERENCE + 4 * (clip + residuals + pixels + small + latent)
    assert boundary_bytes("hero-tiny", "fp32", profile) == want
