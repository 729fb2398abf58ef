"""HERO checkpoints from small public ones in the true formats: diffusers' own classes, and the original key names."""

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from hero_export.cli import main
from hero_export.compose.compose import compose
from hero_export.compose.options import Sources
from hero_rt.errors import UsageError
from hero_rt.models import HeroConfig, HeroModel
from tests.test_commands import run

TINY = HeroConfig.from_preset("hero-tiny")
SIZES = {"block_out_channels": TINY.block_out_channels, "norm_num_groups": TINY.norm_num_groups}


def small_unet(in_channels: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=in_channels, attention_head_dim=TINY.num_attention_heads, cross_attention_dim=64, **SIZES
    )


def motion_adapter(mid: bool = False) -> MotionAdapter:
    adapter = MotionAdapter(
        block_out_channels=TINY.block_out_channels,
        motion_num_attention_heads=TINY.num_attention_heads,
        motion_norm_num_groups=TINY.norm_num_groups,
        use_motion_mid_block=mid,
    )
    for parameter in adapter.parameters():  # proj_out is zero in a new one: a lost tensor would not show
        torch.nn.init.normal_(parameter)
    return adapter


def ip_adapter(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """ip-adapter_sd15.safetensors: a projection to 4 tokens, and layers numbered 1, 3, ... 31."""
    weights = {
        "image_proj.proj.weight": torch.randn(4 * 64, 96),
        "image_proj.proj.bias": torch.randn(4 * 64),
        "image_proj.norm.weight": torch.randn(64),
        "image_proj.norm.bias": torch.randn(64),
    }
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            channels = unet.get_submodule(name.removesuffix(".processor")).to_q.in_features
            for projection in ("to_k_ip", "to_v_ip"):
                weights[f"ip_adapter.{number}.{projection}.weight"] = torch.randn(channels, 64)
            number += 2
    assert number == 33
    return weights


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> dict[str, Path]:
    """A folder each, as the public repositories lay them out."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("public")
    small_unet(4).save_pretrained(root / "sd15" / "unet")
    small_unet(9).save_pretrained(root / "inpainting" / "unet")
    vae = AutoencoderKL(**TINY.vae)
    for pipeline in ("sd15", "inpainting"):
        vae.save_pretrained(root / pipeline / "vae")
    motion_adapter().save_pretrained(root / "motion")
    motion_adapter(mid=True).save_pretrained(root / "motion-v2")
    save_file(ip_adapter(small_unet(4)), root / "ip-adapter_sd15.safetensors")
    # OpenAI publishes text and image encoder as one model
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=TINY.clip, projection_dim=TINY.clip["projection_dim"])
    ).save_pretrained(root / "clip")
    CLIPVisionModelWithProjection(CLIPVisionConfig(**TINY.openclip)).save_pretrained(root / "openclip")
    return {path.name: path for path in root.iterdir()}


def sources(public: dict[str, Path], **changed: str | Path) -> Sources:
    names = {
        "stable_diffusion": public["sd15"],
        "motion_adapter": public["motion"],
        "ip_adapter": public["ip-adapter_sd15.safetensors"],
        "image_encoder": public["clip"],
        "image_encoder_2": public["openclip"],
    } | changed
    return Sources(**{key: str(value) for key, value in names.items()})


def composed(public: dict[str, Path], out: Path, **changed: str | Path) -> HeroModel:
    compose(TINY, sources(public, **changed), seed=0, out=out)
    return HeroModel.from_pretrained(out)


@pytest.mark.parametrize(("pipeline", "channels"), [("sd15", 4), ("inpainting", 9)])
def test_conv_in_of_unet_and_refnet(public, tmp_path, pipeline, channels):
    model = composed(public, tmp_path, stable_diffusion=public[pipeline])
    theirs = load_file(public[pipeline] / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    ours = model["unet"].conv_in.weight
    assert ours.shape[1] == 9
    assert torch.equal(ours[:, :channels], theirs)
    assert not ours[:, channels:].any()
    assert torch.equal(model["refnet"].conv_in.weight, theirs[:, :4])


def test_ip_adapter_lands_where_diffusers_puts_it(public, tmp_path):
    """The layer numbers follow diffusers' registration order (mid last), execution order does not."""
    model = composed(public, tmp_path)
    original = load_file(public["ip-adapter_sd15.safetensors"])
    nested = {"image_proj": {}, "ip_adapter": {}}
    for key, value in original.items():
        part, name = key.split(".", 1)
        nested[part][name] = value
    theirs = small_unet(4)
    theirs._load_ip_adapter_weights([nested])
    for name, processor in theirs.attn_processors.items():
        if name.endswith("attn2.processor"):
            path = name.removesuffix(".processor")
            for part in ("unet", "refnet"):
                if part == "refnet" and path.startswith("up_blocks.3.attentions.2"):
                    continue  # a tap
                attention = model[part].get_submodule(path)
                assert torch.equal(attention.to_k_ip[0].weight, processor.to_k_ip[0].weight), (part, path)
                assert torch.equal(attention.to_v_ip[0].weight, processor.to_v_ip[0].weight), (part, path)
    pixels = torch.randn(2, 96)
    projection = theirs.encoder_hid_proj.image_projection_layers[0]
    torch.testing.assert_close(model["image_projection"](pixels), projection(pixels))


def test_everything_else_is_the_public_tensor_of_the_same_name(public, tmp_path):
    model = composed(public, tmp_path / "default")
    sd15 = load_file(public["sd15"] / "unet" / "diffusion_pytorch_model.safetensors")
    motion = load_file(public["motion"] / "diffusion_pytorch_model.safetensors")
    checked = 0
    copies = composed(public, tmp_path / "copied", flow_encoder="unet")
    for part, source in {"unet": model, "refnet": model, "flow_encoder": copies}.items():
        for name, tensor in source[part].state_dict().items():
            theirs = (sd15 | motion).get(name)
            if theirs is not None and name != "conv_in.weight":
                assert torch.equal(tensor, theirs), (part, name)
                checked += 1
    assert checked > 2000
    assert not any(p.any() for n, p in model["unet"].named_parameters() if n.endswith("im3_alpha"))
    flow = model["flow_encoder"].state_dict()
    assert not any(flow[name].any() for name in flow if name.startswith(("controlnet_down", "controlnet_mid")))
    assert flow["controlnet_cond_embedding.conv_out.weight"].any()
    clip = CLIPModel.from_pretrained(public["clip"]).vision_model.state_dict()
    ours = model["image_encoder"].vision_model.state_dict()
    assert all(torch.equal(ours[name], clip[name]) for name in ours)


def original_animatediff_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """mm_sd_v15: guoyww/AnimateDiff's names (motion_module.py: TemporalTransformer3DModel)."""
    renamed = {}
    for name, tensor in weights.items():
        module, index, rest = re.fullmatch(r"(.*motion_modules\.)(\d+)\.(.*)", name).groups()
        rest = re.sub(r"\.attn([12])\.", lambda m: f".attention_blocks.{int(m[1]) - 1}.", f".{rest}")
        rest = re.sub(r"\.norm([12])\.", lambda m: f".norms.{int(m[1]) - 1}.", rest).replace(".norm3.", ".ff_norm.")
        rest = rest.replace(".pos_embed.pe", ".attention_blocks.0.pos_encoder.pe")
        renamed[f"{module}{index}.temporal_transformer{rest}"] = tensor
    return renamed


@pytest.mark.parametrize("prefix", ["", "module."], ids=["v2-v3", "v1-data-parallel"])
def test_original_animatediff_file_equals_the_motion_adapter(public, tmp_path, prefix):
    adapter = load_file(public["motion"] / "diffusion_pytorch_model.safetensors")
    renamed = {prefix + name: tensor for name, tensor in original_animatediff_names(adapter).items()}
    save_file(renamed, tmp_path / "mm_sd_v15.safetensors")
    ours = composed(public, tmp_path / "a", motion_adapter=tmp_path / "mm_sd_v15.safetensors")["unet"].state_dict()
    theirs = composed(public, tmp_path / "b")["unet"].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_animatediff_v2_brings_its_mid_module(public, tmp_path):
    model = composed(public, tmp_path, motion_adapter=public["motion-v2"])
    theirs = load_file(public["motion-v2"] / "diffusion_pytorch_model.safetensors")
    name = "mid_block.motion_modules.0.proj_out.weight"
    assert model.config.mid_motion
    assert torch.equal(model["unet"].state_dict()[name], theirs[name])


def original_unet_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """v1-5-pruned.safetensors: CompVis' openaimodel.py numbers every layer; 2 resnets a down block, 3 an up block."""
    flat = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    flat |= {f"time_embedding.linear_{i}": f"time_embed.{2 * i - 2}" for i in (1, 2)}
    flat |= {"mid_block.resnets.0": "middle_block.0", "mid_block.resnets.1": "middle_block.2"}
    flat |= {"mid_block.attentions.0": "middle_block.1"}
    for i in range(4):
        for j in range(2):
            flat[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{3 * i + j + 1}.0"
            flat[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{3 * i + j + 1}.1"
        for j in range(3):
            flat[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{3 * i + j}.0"
            flat[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{3 * i + j}.1"
        flat[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{3 * i + 3}.0.op"
        # the first up block has no attention before its upsampler
        flat[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{3 * i + 2}.{1 if i == 0 else 2}.conv"
    inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1"}
    inner |= {"norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    renamed = {}
    for name, tensor in weights.items():
        prefix = max((p for p in flat if name.startswith(p + ".")), key=len)
        rest = name[len(prefix) + 1 :]
        if "resnets" in prefix:
            layer, kind = rest.rsplit(".", 1)
            rest = f"{inner[layer]}.{kind}"
        renamed[f"model.diffusion_model.{flat[prefix]}.{rest}"] = tensor
    return renamed


def original_vae_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """first_stage_model.*: CompVis' model.py counts up blocks from the output and has convolutions for attention."""
    renamed = {}
    for name, tensor in weights.items():
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        attention = "mid_block.attentions.0" in name
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_shortcut", "nin_shortcut")
        name = name.replace("conv_norm_out", "norm_out")
        if attention:
            for theirs, ours in (
                ("group_norm", "norm"),
                ("to_q", "q"),
                ("to_k", "k"),
                ("to_v", "v"),
                ("to_out.0", "proj_out"),
            ):
                name = name.replace(f"attn_1.{theirs}.", f"attn_1.{ours}.")
            if tensor.ndim == 2:
                tensor = tensor[..., None, None]
        renamed[f"first_stage_model.{name}"] = tensor
    return renamed


def test_original_single_file_equals_the_folder(public, tmp_path):
    single = original_unet_names(load_file(public["sd15"] / "unet" / "diffusion_pytorch_model.safetensors"))
    single |= original_vae_names(load_file(public["sd15"] / "vae" / "diffusion_pytorch_model.safetensors"))
    single["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)
    save_file({name: tensor.contiguous() for name, tensor in single.items()}, tmp_path / "v1-5.safetensors")
    ours = composed(public, tmp_path / "a", stable_diffusion=tmp_path / "v1-5.safetensors")
    theirs = composed(public, tmp_path / "b")
    for part in ("unet", "refnet", "flow_encoder", "vae"):
        state, truth = ours[part].state_dict(), theirs[part].state_dict()
        assert all(torch.equal(state[name], truth[name]) for name in truth), part


def test_every_tensor_is_accounted_for(public, tmp_path):
    report = compose(TINY, sources(public), seed=0, out=tmp_path)
    written = {f"{p.parent.name}/{name}" for p in tmp_path.rglob("*.safetensors") for name in load_file(p)}
    assert report.made.keys() == written
    assert {origin for origin, _ in report.made.values()} == {"copied", "zero", "random"}
    random = {name for name, (origin, _) in report.made.items() if origin == "random"}
    assert all(name.startswith("flow_encoder/") for name in random)
    reasons = set(report.unused.values())
    assert reasons == {
        "a softmax over the one CLIP token is 1",
        "a sinusoid, recomputed",
        "CLIP's text encoder",
        "CLIP's training loss",
    }
    assert sum(name.endswith("attn2.to_k.weight") for name in report.unused) == 16


def test_the_flow_encoder_starts_at_random_and_without_a_residual(public, tmp_path):
    composition = composed(public, tmp_path / "a")
    ours, unet = composition["flow_encoder"].state_dict(), composition["unet"].state_dict()
    shared = [name for name in ours if name in unet and name.endswith("weight") and ours[name].ndim > 1]
    assert len(shared) > 100
    assert not any(torch.equal(ours[name], unet[name]) for name in shared)
    assert not ours["controlnet_mid_block.weight"].any()
    copied = composed(public, tmp_path / "b", flow_encoder="unet")
    assert all(torch.equal(copied["flow_encoder"].state_dict()[n], copied["unet"].state_dict()[n]) for n in shared)


def changed_copy(source: Path, target: Path, change) -> Path:
    weights = load_file(source)
    change(weights)
    save_file(weights, target)
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda w: w.pop("ip_adapter.7.to_k_ip.weight"), r"has no 7\.to_k_ip\.weight", id="missing"),
        pytest.param(
            lambda w: w.update({"ip_adapter.33.to_k_ip.weight": torch.ones(1)}),
            r"1 tensors have no place in HERO, for instance 33\.to_k_ip",
            id="unexplained",
        ),
        pytest.param(
            lambda w: w.update({"ip_adapter.1.to_k_ip.weight": torch.ones(32, 48)}),
            r"1\.to_k_ip\.weight is \[32, 48\], unet takes \[32, 64\]",
            id="shape",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(public, tmp_path, change, message):
    file = changed_copy(public["ip-adapter_sd15.safetensors"], tmp_path / "ip.safetensors", change)
    with pytest.raises(UsageError, match=message):
        compose(TINY, sources(public, ip_adapter=file), 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickles_are_refused(public, tmp_path):
    (tmp_path / "mm.ckpt").write_bytes(b"\x80\x04.")
    with pytest.raises(UsageError, match=r"not a \.safetensors file; pickled weights can run code"):
        compose(TINY, sources(public, motion_adapter=tmp_path / "mm.ckpt"), 0, tmp_path / "out")


def test_command_prints_counts_and_writes_the_list(public, tmp_path, capfd):
    paths = sources(public)
    code = run(
        main, "compose", paths.stable_diffusion, "--motion-adapter", paths.motion_adapter, "--ip-adapter",
        paths.ip_adapter, "--image-encoder", paths.image_encoder, "--image-encoder-2", paths.image_encoder_2,
        "--preset", "hero-tiny", "--out", str(tmp_path / "out"), "--json", str(tmp_path / "report.json"),
    )  # fmt: skip
    assert code == 0
    assert "flow_encoder" in capfd.readouterr().err
    listed = json.loads((tmp_path / "report.json").read_text())
    assert listed["made"]["unet/conv_in.weight"][0] == "copied"
    assert "channels 4 to 8 zero" in listed["made"]["unet/conv_in.weight"][1]
    assert HeroModel.from_pretrained(tmp_path / "out").config.name == "hero-tiny"
