"""Engines for a range of canvases: the model's numbers at every size, and the plans' optimisation profiles."""

from pathlib import Path

import numpy as np
import pytest
import torch

import hero_export.cli
from hero_export.build import build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_export.thresholds import THRESHOLDS
from hero_export.trace import axis_names
from hero_export.verify import relative_l2, verify
from hero_rt import Outpainter
from hero_rt.engines import open_engines, read_manifest
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import EngineError
from hero_rt.spec.boundary import submodule_io
from hero_rt.spec.profile import Profile, parse_profile
from tests.test_commands import run

pytestmark = pytest.mark.xdist_group("dynamic")
RANGE = parse_profile("72x72..96x80..136x120x16")
LIMITS = THRESHOLDS["fp32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """hero-tiny's ONNX Runtime engines, one of each submodule."""
    folder = tmp_path_factory.mktemp("dynamic") / "engines"
    build_engines(BuildSettings.of(Checkpoint("random", "hero-tiny")), folder, [RANGE], jobs=2)
    return folder


@pytest.mark.parametrize("canvas", ["72x72", "96x80", "136x120", "72x120", "88x104", "104x88"])
def test_axes_of_one_name_have_one_size_at_every_canvas(tiny, canvas):
    inputs, _ = submodule_io("unet_step", tiny.config, Profile.parse(f"{canvas}x16"), torch.float32)
    named = axis_names("unet_step", tiny.config, RANGE)
    sizes: dict[str, set[int]] = {}
    for name, axes in named.items():
        for axis, label in axes.items():
            sizes.setdefault(label, set()).add(inputs[name].shape[axis])
    assert {label: len(found) for label, found in sizes.items()} == dict.fromkeys(sizes, 1)
    height, width = sizes["height_8"].pop(), sizes["width_8"].pop()
    assert (8 * width, 8 * height) == tuple(map(int, canvas.split("x")))
    assert sizes["tokens_8"] == {height * width}
    assert named["timestep"] == named["clip_v.0"] == {}


@pytest.mark.slow
def test_verify_holds_at_the_smallest_the_typical_and_the_largest_canvas(folder):
    report = verify(folder)
    assert [clip.profile for clip in report.clips] == ["72x72x16", "96x80x16", "136x120x16"]
    assert report.passed
    assert all(engine.parity and engine.parity["passed"] for engine in read_manifest(folder).engines)


@pytest.mark.slow
def test_a_canvas_in_between_with_an_odd_number_of_cells_is_the_models_too(folder, tiny):
    """88x104 is 11x13 cells: every level rounds."""
    clip = np.random.default_rng(0).integers(0, 256, (16, 104, 72, 3), np.uint8)
    latents = {}
    for name, engines in (("engines", open_engines(folder)), ("eager", EagerEngines(tiny))):
        outpainter = Outpainter(engines)
        outpainter.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        arguments = {"pad": (0, 8, 0, 8), "num_inference_steps": 2, "output_type": "latent"}
        latents[name] = outpainter(clip, generator=generator, **arguments).frames
    assert relative_l2(latents["engines"], latents["eager"]) < LIMITS.latents


@pytest.mark.slow
def test_a_canvas_outside_is_refused_with_what_is_there(folder):
    with pytest.raises(EngineError, match=r"no unet_step engine for 144x120x16, only for 72x72\.\.96x80\.\.136x120x16"):
        open_engines(folder).open("unet_step", Profile(144, 120, 16))


def test_a_range_of_a_format_that_has_none_is_refused_at_once(tmp_path, capsys):
    arguments = ["build-engines", "random", "--preset", "hero-tiny", "--format", "aoti", "--out", tmp_path / "e"]
    assert run(hero_export.cli.main, *arguments, "--profile", str(RANGE)) == 2
    assert "a package of format aoti has one shape" in capsys.readouterr().err
    assert not (tmp_path / "e" / "manifest.json").exists()


@pytest.mark.slow
def test_a_plan_of_a_range_is_built_for_it(tmp_path):
    """Not readable without a GPU: its activations are those of the largest canvas, not of the typical one."""
    settings = BuildSettings.of(
        Checkpoint("random", "hero-tiny"),
        format="tensorrt-rtx",
        dtype="fp16",
        compute_capabilities=("sm_89",),
        plugin="off",
    )
    found = {}
    for text in (str(RANGE), "96x80x16"):
        done = build_engines_of(settings, "vae_decoder", text, tmp_path)
        found[text] = done.contents["activation_bytes"]
        wanted = (16, 4, -1, -1) if ".." in text else (16, 4, 10, 12)
        assert done.inputs[0].shape == wanted
    assert found[str(RANGE)] > 1.5 * found["96x80x16"]


def build_engines_of(settings, submodule, text, folder):
    from hero_export.engine_build import EngineTask, build_engine

    profile = parse_profile(text)
    path = folder / settings.file_name(submodule, profile)
    task = EngineTask(settings.resolved(), submodule, profile, path, "")
    return build_engine(task, lambda phase, done, total: True).engine
