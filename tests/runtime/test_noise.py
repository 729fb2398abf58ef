"""Noise depends on seed, purpose, frame and step, and on nothing else."""

import diffusers
import pytest
import torch

from hero_rt.noise import Purpose, StepNoise, frame_noise
from hero_rt.request import MAX_SEED
from hero_rt.sampling import make_scheduler, set_steps, step_arguments
from hero_rt.spec.config import HeroConfig
from hero_rt.stages.denoise import denoise

SHAPE = (4, 16, 16)


def test_it_is_standard_normal():
    noise = frame_noise(3, Purpose.INITIAL, range(64), (4, 32, 32)).double()
    assert noise.shape == (64, 4, 32, 32)
    for moment, value in ((1, 0), (2, 1), (3, 0), (4, 3)):
        assert noise.pow(moment).mean() == pytest.approx(value, abs=0.05)


def test_streams_of_other_seeds_purposes_frames_and_steps_are_independent():
    streams = [
        frame_noise(seed, purpose, range(frame, frame + 1), (4, 64, 64), range(step, step + 1)).flatten()
        for seed in (0, 1, MAX_SEED)
        for purpose in Purpose
        for frame in (0, 1, 2**20)
        for step in (0, 1, 999)
    ]
    correlations = torch.corrcoef(torch.stack(streams)).fill_diagonal_(0)
    assert correlations.abs().max() < 6 / (4 * 64 * 64) ** 0.5  # six deviations of unrelated samples


def test_a_frame_has_the_same_noise_whatever_is_drawn_around_it():
    whole = frame_noise(1, Purpose.ETA, range(28), SHAPE, range(5))
    assert torch.equal(whole[2:4, 12:], frame_noise(1, Purpose.ETA, range(12, 28), SHAPE, range(2, 4)))
    assert torch.equal(whole[0, 12:], frame_noise(1, Purpose.ETA, range(12, 28), SHAPE))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler-a", "lcm"])
def test_a_stochastic_sampler_takes_its_noise_by_frame_and_step(sampler, monkeypatch):
    """Against diffusers' own scheduler, whose draws are replaced from outside; also where blocks hold one step each."""

    def predict(sample, timestep):
        return 0.5 * sample

    def ours() -> torch.Tensor:
        scheduler = make_scheduler(HeroConfig.from_preset("hero-sd15").scheduler, sampler)
        set_steps(scheduler, 5)
        start = torch.ones(16, *SHAPE)
        step_noise = StepNoise(9, range(12, 28), len(scheduler.timesteps))
        return denoise(predict, start, scheduler, step_arguments(scheduler, 1.0), step_noise, lambda i, t, x: x)

    whole = ours()
    monkeypatch.setattr("hero_rt.noise._BLOCK_BYTES", 1)
    torch.manual_seed(5)
    assert torch.equal(ours(), whole)

    scheduler = make_scheduler(HeroConfig.from_preset("hero-sd15").scheduler, sampler)
    scheduler.set_timesteps(5)
    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    sample = torch.ones(16, *SHAPE) * scheduler.init_noise_sigma
    extra = step_arguments(scheduler, 1.0)
    for step, t in enumerate(scheduler.timesteps):
        drawn = frame_noise(9, Purpose.ETA, range(12, 28), SHAPE, range(step, step + 1))[0]
        monkeypatch.setattr(module, "randn_tensor", lambda *args, _drawn=drawn, **kwargs: _drawn)
        sample = scheduler.step(0.5 * scheduler.scale_model_input(sample, t), t, sample, **extra).prev_sample
    assert torch.equal(whole, sample)


def test_a_deterministic_sampler_draws_nothing(monkeypatch):
    monkeypatch.setattr("hero_rt.noise.frame_noise", None)  # a draw would fail
    scheduler = diffusers.DDIMScheduler()
    set_steps(scheduler, 3)
    start = torch.ones(16, *SHAPE)
    denoise(lambda x, t: x, start, scheduler, {"eta": 0.0}, StepNoise(0, range(16), 3), lambda i, t, x: x)
