"""AOTInductor packages: equal numbers, and refused where their native code does not belong."""

import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._inductor.runtime.cache_dir_utils import cache_dir

import hero_export.aoti_package
import hero_export.build
import hero_export.cli
from hero_export.build import build_engines
from hero_export.checkpoint import Checkpoint
from hero_export.engine_build import BuildSettings
from hero_export.inspect import inspect_folder
from hero_rt import Outpainter
from hero_rt.engines import open_engines, read_manifest
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import EngineError, HeroError
from hero_rt.spec.profile import Profile
from tests.clips import small_clip
from tests.manifests import edit_manifest
from tests.test_commands import run

TINY = BuildSettings.of(Checkpoint("random", "hero-tiny"))
SETTINGS = BuildSettings.of(Checkpoint("random", "hero-tiny"), format="aoti", device="cpu")
PROFILE = Profile(64, 64, 16)


pytestmark = pytest.mark.xdist_group("aoti")  # one worker builds the package


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory) -> Path:
    """One engine, for the parts that do not depend on which."""
    folder = tmp_path_factory.mktemp("aoti") / "engines"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hero_export.build, "SUBMODULES", ("vae_decoder",))
        build_engines(SETTINGS, folder, [PROFILE])
    return folder


def test_a_package_equals_eager(decoder_folder, tiny):
    latents = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    engines = open_engines(decoder_folder, "cpu")
    got = engines.open("vae_decoder", PROFILE)(latents=latents)["frames"]
    want = EagerEngines(tiny).open("vae_decoder", PROFILE)(latents=latents)["frames"]
    assert (got - want).norm() / want.norm() < 1e-4
    assert list(read_manifest(decoder_folder).files) == ["vae_decoder.64x64x16.pt2"]


def test_the_library_that_a_package_holds_is_not_left_in_the_compilers_cache(decoder_folder):
    with zipfile.ZipFile(decoder_folder / "vae_decoder.64x64x16.pt2") as package:
        libraries = [Path(name).name for name in package.namelist() if name.endswith(".so")]
    assert libraries
    assert [path for name in libraries for path in Path(cache_dir()).rglob(name)] == []


def test_what_the_linker_says_is_the_reason():
    said = "C++ compile error\n\nCommand:\ng++ x.cpp -lcuda\n\nOutput:\n/usr/bin/ld: cannot find -lcuda: No such file\n"
    assert hero_export.aoti_package._first_error(said) == "/usr/bin/ld: cannot find -lcuda: No such file"
    assert hero_export.aoti_package._first_error("\nInvalid C++ compiler\n") == "Invalid C++ compiler"


@pytest.mark.parametrize(
    ("compiler", "named"), [("", "g\\+\\+ is not installed"), ("clang++-99", r"clang\+\+-99 is not installed")]
)
def test_a_missing_compiler_is_said_before_anything_is_traced(tmp_path, monkeypatch, compiler, named):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(HeroError, match=rf"{named}; apt-get install g\+\+"):
        build_engines(SETTINGS, tmp_path / "engines", [PROFILE])
    assert not (tmp_path / "engines").exists()


def test_attention_to_a_few_keys_is_two_products_and_a_softmax():
    """Against float64; and what has more keys stays one operator."""
    generator = torch.Generator().manual_seed(0)
    query, few, many = (torch.randn(3, 2, n, 16, generator=generator) for n in (64, 4, 32))

    class Attention(torch.nn.Module):
        def forward(self, query, few, many):
            attend = torch.nn.functional.scaled_dot_product_attention
            return attend(query, few, few), attend(query, many, many)

    exported = torch.export.export(Attention(), (query, few, many))
    exported = exported.run_decompositions(
        {hero_export.aoti_package.ATTENTION: hero_export.aoti_package.short_attention}
    )
    assert [str(n.target) for n in exported.graph.nodes].count("aten.scaled_dot_product_attention.default") == 1
    for got, keys in zip(exported.module()(query, few, many), (few, many), strict=True):
        scores = query.double() @ keys.double().mT / 4
        torch.testing.assert_close(got.double(), scores.softmax(-1) @ keys.double(), atol=1e-6, rtol=1e-5)


def test_inspect_counts_the_packages_kernels(decoder_folder):
    engine = inspect_folder(decoder_folder).engines[0]
    convolutions = sum(count for name, count in engine.layers.items() if "convolution" in name)
    assert convolutions == engine.contents["operators"]["aten.conv2d"] == 27
    assert any("scaled_dot_product" in name for name in engine.attention)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param({"library_version": "1.0.0"}, "built with torch 1.0.0, .* is installed; rebuild", id="torch"),
        pytest.param(
            {"compute_capabilities": ["sm_90"], "gpu": "NVIDIA H100"},
            r"built for NVIDIA H100 \(sm_90\), this is a CPU \(cpu .*\); rebuild: hero-export build-engines random",
            id="gpu",
        ),
        pytest.param({"compute_capabilities": ["cpu NEON"]}, r"built for a CPU \(cpu NEON\), this is a CPU", id="cpu"),
    ],
)
def test_native_code_for_another_machine_is_refused_before_it_is_loaded(decoder_folder, tmp_path, target, message):
    copy = Path(shutil.copytree(decoder_folder, tmp_path / "copy"))
    edit_manifest(copy, {"target": target})
    with pytest.raises(EngineError, match=message):
        open_engines(copy, "cpu")


def test_a_flipped_bit_is_refused_before_it_is_loaded(decoder_folder, tmp_path):
    copy = Path(shutil.copytree(decoder_folder, tmp_path / "copy"))
    package = copy / "vae_decoder.64x64x16.pt2"
    data = bytearray(package.read_bytes())
    data[len(data) // 2] ^= 1
    package.write_bytes(data)
    with pytest.raises(EngineError, match=r"pt2 has SHA-256"):
        open_engines(copy, "cpu")


def test_two_formats_do_not_share_a_folder(decoder_folder):
    with pytest.raises(EngineError, match="holds engines of format 'aoti', this build is of 'onnxruntime'"):
        build_engines(TINY, decoder_folder, [PROFILE])


@pytest.mark.slow  # compiles six packages: about ten minutes on two cores
def test_a_real_clip_is_outpainted_and_verified(tmp_path, tiny):
    folder = tmp_path / "engines"
    build_engines(SETTINGS, folder, [Profile(128, 64, 16)], jobs=2)
    clip, arguments = small_clip(), {"pad": (0, 24, 0, 24), "num_inference_steps": 10}
    results = []
    for engines in (open_engines(folder, "cpu"), EagerEngines(tiny)):
        outpainter = Outpainter(engines)
        results.append(outpainter(clip, generator=torch.Generator().manual_seed(0), **arguments).frames)
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1
    assert run(hero_export.cli.main, "verify", folder) == 0

    seeds = range(4)
    with Outpainter.from_engines(folder, "cpu") as shared, ThreadPoolExecutor(4) as threads:
        shared.set_progress_bar_config(disable=True)
        want = [shared(clip, seed=seed, **arguments).frames for seed in seeds]
        for _ in range(3):
            got = threads.map(lambda seed: shared(clip, seed=seed, **arguments).frames, seeds)
            assert all(np.array_equal(g, w) for g, w in zip(got, want, strict=True))
