"""The runtime on the small model and a real clip."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hero_rt import Outpainter
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import EngineError
from hero_rt.models import HeroConfig, HeroModel
from hero_rt.plan import profile_of
from hero_rt.spec.canvas import Canvas
from hero_rt.spec.profile import Profile
from hero_rt.stages.flow import optical_flow
from hero_rt.stages.prepare import prepare_window
from hero_rt.video import open_video
from tests.clips import small_clip
from tests.runtime.recording import Recorder

PAD = (0, 24, 0, 24)  # 80x64 -> 128x64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def outpainter(tiny) -> Outpainter:
    made = Outpainter(EagerEngines(tiny))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def engines(outpainter) -> Recorder:
    return Recorder(outpainter.engines)


def constants_of(outpainter: Outpainter, source: np.ndarray, guided: bool = False) -> dict[str, torch.Tensor]:
    """What the step of one window of `source` binds."""
    canvas = Canvas(80, 64, *PAD)
    profile = profile_of(canvas, outpainter.engines, guided)
    return prepare_window(outpainter.engines, profile, canvas, source, optical_flow(source))


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return small_clip(frames=28)


ONCE_A_WINDOW = ("vae_encoder", "semantic", "refnet", "flow_encoder")


@pytest.mark.parametrize(
    ("frames", "windows"), [pytest.param(16, 1, id="one-window"), pytest.param(28, 2, id="two-windows")]
)
@pytest.mark.parametrize("mode", ["joint", "stream"])
def test_everything_constant_runs_exactly_once_a_window(outpainter, engines, clip, mode, frames, windows):
    steps = 3
    result = outpainter(clip[:frames], pad=PAD, num_inference_steps=steps, generator=seeded(), mode=mode)
    assert result.frames.shape == (frames, 64, 128, 3)
    assert {name: engines.runs[name] for name in ONCE_A_WINDOW} == dict.fromkeys(ONCE_A_WINDOW, windows)
    assert engines.runs["unet_step"] == windows * steps
    assert len(engines.bound) == windows  # each window is bound once, whatever runs between its steps


@pytest.mark.parametrize("mode", ["joint", "stream"])
def test_source_pixels_come_back_bit_exact_and_the_seed_decides_the_rest(outpainter, clip, mode):
    def run(seed: int) -> np.ndarray:
        return outpainter(clip[:20], pad=PAD, num_inference_steps=2, generator=seeded(seed), mode=mode).frames

    first, again, other = run(1), run(1), run(2)
    assert np.array_equal(first[:, :, 24:-24], clip[:20])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_joint_and_stream_mode_start_from_the_same_noise(outpainter, engines, clip):
    """What the UNet is given first, window by window."""
    seen: dict[str, list[torch.Tensor]] = {"joint": [], "stream": []}
    for mode, samples in seen.items():
        engines.on_run = lambda name, inputs, samples=samples: (
            samples.append(inputs["sample"].clone()) if name == "unet_step" else None
        )
        outpainter(clip, pad=PAD, num_inference_steps=1, generator=seeded(4), mode=mode)
    assert len(seen["joint"]) == 2
    for joint, stream in zip(seen["joint"], seen["stream"], strict=True):
        assert torch.equal(joint, stream)


@pytest.mark.parametrize("mode", ["joint", "stream"])
@pytest.mark.parametrize("frames", [1, 5])
def test_clips_shorter_than_a_window_are_padded_and_trimmed(outpainter, clip, mode, frames):
    result = outpainter(clip[:frames], pad=PAD, num_inference_steps=1, generator=seeded(), mode=mode)
    assert result.frames.shape == (frames, 64, 128, 3)
    assert np.array_equal(result.frames[:, :, 24:-24], clip[:frames])


def test_sizes_that_are_no_multiple_of_8_are_padded_inside_and_cropped(outpainter, engines, clip):
    source = clip[:16, :51, :67]
    result = outpainter(source, pad=(5, 9, 3, 14), num_inference_steps=1, generator=seeded())
    assert result.frames.shape == (16, 59, 90, 3)
    assert np.array_equal(result.frames[:, 5:56, 14:81], source)
    assert engines.bound[0]["condition"].shape == (16, 5, 8, 12)


SD15_SCHEDULE = {
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "timestep_spacing": "leading",
}


@pytest.mark.parametrize("kind", ["epsilon", "velocity"])
def test_denoising_is_ddim_by_its_formula(tiny, clip, kind):
    """Song et al., Eq. 12 with sigma 0, written out here, against the runtime's latents after 4 steps.

    epsilon is Stable Diffusion 1.5's schedule; velocity (Salimans & Ho) goes with the rescaled one of Lin et al.,
    whose first step starts from noise alone.
    """
    schedule = tiny.config.scheduler | (SD15_SCHEDULE if kind == "epsilon" else {})
    model = HeroModel.random(replace(tiny.config, scheduler=schedule))
    outpainter = Outpainter(EagerEngines(model))
    outpainter.set_progress_bar_config(disable=True)
    noise = torch.randn(16, 4, 8, 16, generator=seeded(3))
    got = outpainter(clip[:16], pad=PAD, num_inference_steps=4, latents=noise, output_type="latent").frames

    unet = outpainter.engines.open("unet_step", Profile(128, 64, 16))
    binding = unet.bind(constants_of(outpainter, clip[:16]))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    timesteps = (751, 501, 251, 1)
    if kind == "velocity":
        root = alphas.sqrt()
        alphas = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        timesteps = (999, 749, 499, 249)
    x = noise.double()
    for t in timesteps:
        predicted = unet.run(binding, sample=x.float(), timestep=torch.tensor([float(t)]))["noise_pred"].double()
        now, before = alphas[t], alphas[t - 250] if t >= 250 else alphas[0]
        if kind == "epsilon":
            eps, x0 = predicted, (x - (1 - now).sqrt() * predicted) / now.sqrt()
        else:
            x0 = now.sqrt() * x - (1 - now).sqrt() * predicted
            eps = now.sqrt() * predicted + (1 - now).sqrt() * x
        x = before.sqrt() * x0 + (1 - before).sqrt() * eps

    assert ((got.double() - x).norm() / x.norm()) < 1e-4


def test_guidance_mixes_the_two_rows_by_the_formula(outpainter, tiny, clip):
    unet = EagerEngines(tiny).open("unet_step", Profile(128, 64, 16, guided=True))
    noise = torch.randn(16, 4, 8, 16, generator=seeded(3))
    given = constants_of(outpainter, clip[:16], guided=True) | {"sample": noise, "timestep": torch.tensor([1.0])}
    uncond, cond = unet(**given)["noise_pred"].chunk(2)
    assert (cond - uncond).abs().max() > 1e-3
    # a single DDIM step is affine in the guided noise, and that is affine in the scale
    results = {}
    for scale in (1.0, 2.0, 3.0):
        out = outpainter(
            clip[:16], pad=PAD, num_inference_steps=1, guidance_scale=scale, latents=noise, output_type="latent"
        )
        results[scale] = out.frames
    slope = (results[3.0] - results[1.0]) / 2
    torch.testing.assert_close(results[2.0], results[1.0] + slope, rtol=1e-3, atol=1e-3)
    assert slope.abs().max() > 1e-3


def test_step_callback_sees_every_step_and_may_replace_the_latents(outpainter, clip):
    seen = []

    def zero_the_last(pipe, step, timestep, kwargs):
        assert pipe is outpainter
        seen.append((step, int(timestep)))
        return {"latents": torch.zeros_like(kwargs["latents"])} if step == 2 else {}

    result = outpainter(
        clip[:16], pad=PAD, num_inference_steps=3, generator=seeded(), output_type="latent",
        callback_on_step_end=zero_the_last,
    )  # fmt: skip
    assert seen == [(0, 999), (1, 666), (2, 332)]
    assert not result.frames.any()


def test_stream_is_lazy_and_starts_each_window_from_finished_frames(outpainter, engines, clip):
    pulled = []

    source = open_video(clip)
    frames = source.frames

    def counted():
        for frame in frames():
            pulled.append(1)
            yield frame

    source.frames = counted
    stream = outpainter.stream(source, pad=PAD, num_inference_steps=1, generator=seeded())
    first = next(stream)
    assert len(first) == 16
    assert len(pulled) == 16  # first frames out after one window
    rest = list(stream)
    assert [len(chunk) for chunk in rest] == [12]
    assert np.array_equal(np.concatenate([first, *rest])[:, :, 24:-24], clip)

    mask_first, mask_second = (bound["condition"][:, 0] for bound in engines.bound)
    assert mask_first[:, :, :3].all()
    assert not mask_second[:4].any()  # carried frames are wholly known
    assert torch.equal(mask_second[4:], mask_first[4:])


def test_joint_memory_is_one_prepared_window_each(outpainter, clip):
    held = sum(tensor.nbytes for tensor in constants_of(outpainter, clip[:16]).values())
    # 16 attentions' reference K and V dominate: 16 frames x (16x8, 8x4, 4x2, 2x1 tokens) in FP32
    tokens = {0: 128, 1: 32, 2: 8, 3: 2}
    config = outpainter.config
    reference = sum(2 * 16 * tokens[level] * config.block_out_channels[level] * 4 for level in config.attention_levels)
    assert reference < held < 2 * reference


@pytest.mark.parametrize("sampler", ["euler", "dpm++", "unipc", "euler-a", "HeunDiscreteScheduler"])
def test_samplers_by_name_run_and_are_seeded(outpainter, clip, sampler):
    results = [
        outpainter(
            clip[:16], pad=PAD, num_inference_steps=2, sampler=sampler, generator=seeded(5), output_type="latent"
        ).frames
        for _ in range(2)
    ]
    assert results[0].isfinite().all()
    assert torch.equal(*results)


def test_synced_flow_encoder_runs_in_every_step(clip):
    """The paper's ablation: the flow encoder takes the sampler's timestep, so nothing of it can be cached."""
    config = replace(HeroConfig.from_preset("hero-tiny"), ofe_timestep="synced")
    outpainter = Outpainter(EagerEngines(HeroModel.random(config)))
    engines = Recorder(outpainter.engines)
    outpainter.set_progress_bar_config(disable=True)
    result = outpainter(clip[:16], pad=PAD, num_inference_steps=2, generator=seeded(), output_type="latent")
    assert engines.runs["flow_encoder"] == 0
    assert "flow_mask" in engines.bound[0]
    constants = engines.bound[0]
    step = outpainter.engines.open("unet_step", Profile(128, 64, 16))
    given = constants | {"sample": torch.randn(16, 4, 8, 16, generator=seeded()), "timestep": torch.tensor([10.0])}
    still = given | {"flow_mask": torch.zeros_like(constants["flow_mask"])}
    assert not torch.equal(step(**given)["noise_pred"], step(**still)["noise_pred"])
    assert result.frames.isfinite().all()


def test_engine_checks_names_shapes_and_dtypes(tiny):
    engine = EagerEngines(tiny).open("vae_encoder", Profile(64, 64, 16))
    with pytest.raises(
        EngineError, match=r"input 'frames' is float32\[16, 3, 64, 32\], the engine takes float32\[16, 3"
    ):
        engine(frames=torch.zeros(16, 3, 64, 32))
    with pytest.raises(EngineError, match=r"input 'frames' is float16"):
        engine(frames=torch.zeros(16, 3, 64, 64, dtype=torch.float16))
    with pytest.raises(EngineError, match="no input 'pixels'; it takes frames"):
        engine(pixels=torch.zeros(1))
    with pytest.raises(EngineError, match="input 'frames' is neither bound nor given"):
        engine()


@pytest.mark.parametrize("output_type", ["pil", "pt"])
def test_output_types_hold_the_same_pixels(outpainter, clip, output_type):
    arguments = {"pad": PAD, "num_inference_steps": 1}
    frames = outpainter(clip[:16], generator=seeded(), **arguments).frames
    other = outpainter(clip[:16], generator=seeded(), output_type=output_type, **arguments).frames
    if output_type == "pil":
        other = np.stack([np.asarray(image) for image in other])
    else:
        assert other.shape == (16, 3, 64, 128)
        other = (other * 255).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.array_equal(frames, other)
