"""Checkpoints on disk: the diffusers layout, safetensors only, clear refusals."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hero_rt.errors import UsageError
from hero_rt.models import PRESETS, HeroConfig, HeroModel
from hero_rt.models.hero import PARTS, make_part


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_round_trip_keeps_every_tensor_and_the_config(tiny, folder):
    loaded = HeroModel.from_pretrained(folder)
    assert loaded.config.network == tiny.config.network
    assert loaded.config.scheduler == tiny.config.scheduler
    for part in PARTS:
        state, again = tiny[part].state_dict(), loaded[part].state_dict()
        assert state.keys() == again.keys()
        assert all(torch.equal(state[key], again[key]) for key in state)


def test_layout_is_diffusers_and_safetensors_only(folder):
    index = json.loads((folder / "model_index.json").read_text())
    assert index["unet"] == ["hero_rt", "UNet3D"]
    assert index["vae"] == ["diffusers", "AutoencoderKL"]
    weights = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert weights == {".json", ".safetensors"}


def test_pickled_weights_are_refused_and_never_run(copy):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (copy / "pwned",))

    shutil.move(copy / "unet" / "diffusion_pytorch_model.safetensors", copy / "aside")
    with (copy / "unet" / "diffusion_pytorch_model.bin").open("wb") as file:
        pickle.dump({"conv_in.weight": Trap()}, file)
    with pytest.raises(UsageError, match=r"unet/ holds no \.safetensors"):
        HeroModel.from_pretrained(copy)["unet"]
    assert not (copy / "pwned").exists()


def test_missing_part_and_foreign_folder_are_named(copy, tmp_path):
    shutil.rmtree(copy / "refnet")
    with pytest.raises(UsageError, match=r"refnet/config\.json is missing"):
        HeroModel.from_pretrained(copy)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(UsageError, match="'StableDiffusionPipeline', not a HeroModel"):
        HeroModel.from_pretrained(tmp_path)
    with pytest.raises(UsageError, match="neither a folder nor hero-tiny nor a reachable Hub id"):
        HeroModel.from_pretrained(tmp_path / "nowhere")


def test_truncated_safetensors_is_one_clear_line(copy):
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="cannot load unet/ as UNet3D") as caught:
        HeroModel.from_pretrained(copy)["unet"]
    assert "\n" not in str(caught.value)


def test_reading_a_checkpoint_draws_no_progress_bars(folder, capfd):
    model = HeroModel.from_pretrained(folder)
    for part in ("image_encoder", "image_encoder_2"):
        assert model[part] is not None
    assert capfd.readouterr().err == ""


def test_half_precision_parts_are_all_half(tiny):
    half = HeroModel.random("hero-tiny", dtype=torch.float16)
    assert {p.dtype for p in half["unet"].parameters()} == {torch.float16}
    name = "conv_in.weight"
    assert torch.equal(half["unet"].state_dict()[name], tiny["unet"].state_dict()[name].half())


@pytest.mark.parametrize("preset", PRESETS)
def test_topology_has_16_attentions_20_motion_modules_and_13_residuals(preset):
    config = HeroConfig.from_preset(preset)
    with torch.device("meta"):
        unet, refnet, flow = (make_part(config, part) for part in ("unet", "refnet", "flow_encoder"))
    assert len(unet.spatial_attentions()) == 16
    assert len(refnet.spatial_attentions()) == 15  # and a tap: the last ends at norm1
    alphas = [name for name in unet.state_dict() if name.endswith("im3_alpha")]
    assert len(alphas) == 20
    assert sum(name.startswith("down_blocks") for name in alphas) == 8
    assert len([name for name in flow.state_dict() if name.endswith("im3_alpha")]) == 8
    assert len(flow.controlnet_down_blocks) + 1 == 13


@torch.no_grad()
def test_animatediff_v2_adds_one_motion_module_to_the_mid_block(tiny):
    config = replace(tiny.config, mid_motion=True)
    unet, plain = HeroModel.random(config)["unet"], tiny["unet"]
    added = {key.rsplit(".", 1)[0] for key in unet.state_dict().keys() - plain.state_dict().keys()}
    assert all(key.startswith("mid_block.motion_modules.0") for key in added)
    assert len([key for key in unet.state_dict() if key.endswith("im3_alpha")]) == 21
    reads = unet.project_semantic(torch.randn(4, 1, 64), torch.randn(4, 4, 64))
    inputs = (torch.randn(4, 4, 8, 8), torch.tensor([1.0]), torch.randn(4, 5, 8, 8), reads, [], 4)
    before = unet(*inputs)
    unet.mid_block.motion_modules[0].proj_out.weight.mul_(2)
    assert (unet(*inputs) - before).norm() / before.norm() > 1e-4


def test_sd15_preset_has_the_published_sizes():
    """SD 1.5's UNet has 859.5 M parameters, AnimateDiff's v1 motion modules 417.1 M (20 without pe)."""
    config = HeroConfig.from_preset("hero-sd15")
    with torch.device("meta"):
        unet = make_part(config, "unet")
    motion = sum(p.numel() for name, p in unet.named_parameters() if "motion_modules" in name and "im3" not in name)
    ip_adapter = sum(p.numel() for name, p in unet.named_parameters() if "_ip." in name)
    dead_clip_keys = 768 * sum(config.block_out_channels[level] for level in config.attention_levels)
    mask_and_latents = 5 * 320 * 9
    spatial = sum(p.numel() for p in unet.parameters()) - motion - ip_adapter - 20
    assert spatial + dead_clip_keys - mask_and_latents == 859_520_964
    assert round(motion / 1e6, 1) == 417.1


def test_zero_initialised_layers_are_zero_in_a_new_model_and_drawn_in_a_random_one(tiny):
    fresh = make_part(tiny.config, "flow_encoder").state_dict()
    drawn = tiny["flow_encoder"].state_dict()
    zero = ["controlnet_mid_block.weight", "controlnet_down_blocks.3.weight"]
    zero += [f"down_blocks.0.motion_modules.0.{name}" for name in ("proj_out.weight", "im3_alpha")]
    for name in zero:
        assert not fresh[name].any()
        assert drawn[name].any()
    assert fresh["controlnet_cond_embedding.conv_out.weight"].any()


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(UsageError, match="unknown preset 'hero-xl'; known: hero-sd15, hero-tiny"):
        HeroModel.random("hero-xl")
