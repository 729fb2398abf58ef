"""Profiles and ranges of them: what they are written as, what they cover, what is refused."""

import pytest
import torch

from hero_rt.errors import UsageError
from hero_rt.spec.boundary import FREE, submodule_boundary
from hero_rt.spec.config import HeroConfig
from hero_rt.spec.profile import Profile, ProfileRange, parse_profile

RANGE = "128x72..256x72..512x72x16-cfg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("256x256", "is not WIDTHxHEIGHTxFRAMES", id="no-frames"),
        pytest.param("250x256x16", "must be positive multiples of 8.*use 256x256", id="not-8"),
        pytest.param("256x256x64", "64 frames; temporal attention takes 2 to 32", id="too-long"),
    ],
)
def test_profiles_are_parsed_strictly(text, message):
    with pytest.raises(UsageError, match=message):
        Profile.parse(text)
    assert Profile.parse("256x128x16-cfg") == Profile(256, 128, 16, True)
    assert str(Profile(256, 128, 16, True)) == "256x128x16-cfg"


def test_a_range_is_written_as_it_is_read():
    seen = parse_profile(RANGE)
    assert seen == ProfileRange(*(Profile(width, 72, 16, True) for width in (128, 256, 512)))
    assert str(seen) == RANGE
    assert str(seen.of("refnet")) == "128x72..256x72..512x72x16"
    assert parse_profile("256x72x16") == Profile(256, 72, 16)


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("128x72x16-cfg", True),
        ("512x72x16-cfg", True),
        ("136x72x16-cfg", True),
        ("120x72x16-cfg", False),
        ("520x72x16-cfg", False),
        ("256x80x16-cfg", False),
        ("256x72x16", False),
        ("256x72x8-cfg", False),
    ],
)
def test_a_range_covers_the_canvases_between_its_ends(text, covered):
    assert parse_profile(RANGE).covers(Profile.parse(text)) is covered


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("128x128..256x256x16", "is not WIDTHxHEIGHT..WIDTHxHEIGHT..WIDTHxHEIGHTxFRAMES"),
        ("256x128..128x128..512x128x16", "widths 256, 128, 512 are not smallest, typical, largest"),
        ("128x128..256x512..512x256x16", "heights 128, 512, 256 are not smallest, typical, largest"),
        ("64x128..128x128..256x128x16", "a width that varies starts at 72 pixels, not 64"),
        ("128x128..128x128..128x128x16", "has one size; write 128x128x16"),
        ("100x128..128x128..256x128x16", "profile 100x128x16: .* multiples of 8"),
    ],
)
def test_a_range_that_is_none_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_profile(text)


def test_only_the_axes_that_vary_are_free():
    inputs, outputs = submodule_boundary(
        "unet_step", HeroConfig.from_preset("hero-tiny"), parse_profile(RANGE), torch.float16
    )
    assert inputs["sample"].shape == (16, 4, 9, FREE)
    assert inputs["timestep"].shape == (1,)
    assert inputs["ref_k.0"].shape == (16, FREE, 32)
    assert inputs["clip_v.0"].shape == (16, 1, 32)
    assert inputs["flow_residual.12"].shape == (16, 48, 2, FREE)
    assert outputs["noise_pred"].shape == (32, 4, 9, FREE)
