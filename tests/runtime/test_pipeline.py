"""What users of diffusers' pipelines expect: inputs, outputs, scheduler, parts, moving, saving, the Hub's options."""

import shutil
from fractions import Fraction
from pathlib import Path

import av
import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import hero_rt
import hero_rt.models.hero
from hero_rt import Outpainter
from hero_rt.engines.eager import EagerEngines
from hero_rt.errors import UsageError, VideoError
from hero_rt.models import HeroModel
from hero_rt.models.hero import PARTS
from tests.clips import BIG_BUCK_BUNNY, read, small_clip

PAD = (0, 24, 0, 24)  # 80x64 -> 128x64
FAST = {"pad": PAD, "num_inference_steps": 1}


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return small_clip(16)


def quiet(outpainter: Outpainter) -> Outpainter:
    outpainter.set_progress_bar_config(disable=True)
    return outpainter


@pytest.fixture
def outpainter(tiny) -> Outpainter:
    return quiet(Outpainter(EagerEngines(tiny)))


@pytest.fixture
def own() -> Outpainter:
    """With a model that a test may change."""
    return quiet(Outpainter(EagerEngines(HeroModel.random("hero-tiny", seed=0))))


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(lambda clip: [Image.fromarray(frame) for frame in clip], id="pil"),
        pytest.param(lambda clip: torch.from_numpy(clip).permute(0, 3, 1, 2), id="uint8-tensor"),
        pytest.param(lambda clip: torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255, id="float-tensor"),
        pytest.param(lambda clip: clip.astype(np.float64) / 255, id="float-array"),
    ],
)
def test_a_clip_in_memory_gives_the_same_frames_whatever_its_type(outpainter, clip, given):
    assert np.array_equal(outpainter(given(clip), **FAST).frames, outpainter(clip, **FAST).frames)


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        pytest.param(np.zeros((4, 64, 80), np.uint8), UsageError, r"video is uint8\[4, 64, 80\], expected a uint8 or float array", id="no-colour"),
        pytest.param(np.zeros((4, 64, 80, 3), np.int16), UsageError, r"video is int16\[4, 64, 80, 3\]", id="int16"),
        pytest.param(torch.zeros(4, 64, 80, 3), UsageError, r"video is float32\[4, 64, 80, 3\], expected a uint8 or float tensor \[N, 3, h, w\]", id="channels-last-tensor"),
        pytest.param(np.full((4, 64, 80, 3), 2.0), UsageError, "holds floats from 2 to 2, expected 0 to 1", id="range"),
        pytest.param(np.full((4, 64, 80, 3), np.nan), UsageError, "holds floats from nan to nan", id="nan"),
        pytest.param(np.zeros((0, 64, 80, 3), np.uint8), VideoError, "has zero frames", id="empty-array"),
        pytest.param([], VideoError, "the list of images is empty", id="empty-list"),
        pytest.param([Image.new("RGB", (80, 64)), Image.new("RGB", (64, 80))], UsageError, "frame 1 of the list is 64x80, frame 0 is 80x64", id="sizes"),
        pytest.param(["a.png"], UsageError, "frame 0 of the list is a str, expected a PIL image", id="names"),
        pytest.param(3, UsageError, "video is of type int; give a path, an array, a tensor or a list of PIL images", id="number"),
    ],
)  # fmt: skip
def test_what_is_no_clip_is_refused_in_one_line(outpainter, video, error, message):
    with pytest.raises(error, match=message):
        outpainter(video, **FAST)


def test_output_types_are_those_of_diffusers(outpainter, clip):
    frames = outpainter(clip, **FAST).frames
    assert (frames.dtype, frames.shape) == (np.uint8, (16, 64, 128, 3))
    as_np = outpainter(clip, output_type="np", **FAST).frames
    as_pt = outpainter(clip, output_type="pt", **FAST).frames
    assert as_np.dtype == np.float32
    processor = diffusers.video_processor.VideoProcessor()  # takes [F, C, h, w] in [-1, 1]
    signed = torch.from_numpy(frames / 127.5 - 1).permute(0, 3, 1, 2).float()
    np.testing.assert_allclose(as_np, processor.postprocess(signed, output_type="np"), atol=1e-6)
    np.testing.assert_allclose(as_pt, processor.postprocess(signed, output_type="pt"), atol=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "np", "pt", "pil", "stream"])
def test_saving_keeps_frames_rate_and_audio(outpainter, tmp_path, kind):
    short = tmp_path / "short.mp4"
    cut(BIG_BUCK_BUNNY, short, 16)
    arguments = {"pad": (0, 0, 8, 0), "num_inference_steps": 1}
    if kind == "stream":
        saved = outpainter.stream(short, **arguments).save(tmp_path / "out.mp4", crf=1)
    else:
        saved = outpainter(short, output_type=kind, **arguments).save(str(tmp_path / "out.mp4"), crf=1)
    assert saved == tmp_path / "out.mp4"
    want = outpainter(short, **arguments).frames
    got = read(saved)
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).mean() < 4  # 4:2:0 blurs colour by design
    with av.open(str(saved)) as made, av.open(str(short)) as source:
        assert made.streams.video[0].average_rate == source.streams.video[0].average_rate == Fraction(25)
        assert made.streams.audio[0].codec_context.name == source.streams.audio[0].codec_context.name
    outpainter(short, **arguments).save(tmp_path / "silent.mp4", audio=False)
    with av.open(str(tmp_path / "silent.mp4")) as silent:
        assert not silent.streams.audio


def cut(path: Path, out: Path, frames: int) -> None:
    """The first frames at a tenth of the size, with the audio packets of their time."""
    with av.open(str(path)) as source, av.open(str(out), "w") as made:
        video = made.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 128, 72, "yuv420p"
        audio = made.add_stream_from_template(source.streams.audio[0])
        for number, frame in enumerate(source.decode(video=0)):
            if number == frames:
                break
            small = frame.reformat(128, 72, "yuv420p")
            small.pts, small.time_base = number, Fraction(1, 25)
            made.mux(video.encode(small))
        made.mux(video.encode(None))
        source.seek(0)
        for packet in source.demux(audio=0):
            if packet.pts is not None and packet.pts * packet.time_base < Fraction(frames, 25):
                packet.stream = audio
                made.mux(packet)


def test_a_png_folder_takes_no_option_of_a_video_and_latents_are_no_frames(outpainter, clip, tmp_path):
    result = outpainter(clip, **FAST)
    result.save(tmp_path / "png")
    saved = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "png").iterdir())])
    assert np.array_equal(saved, result.frames)
    with pytest.raises(UsageError, match="crf has no effect on the PNG folder"):
        result.save(tmp_path / "other", crf=20)
    with pytest.raises(UsageError, match="latents are no frames"):
        outpainter(clip, output_type="latent", **FAST).save(tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["png"]


def test_an_assigned_scheduler_samples_and_is_saved(own, clip, tmp_path):
    by_name = own(clip, pad=PAD, num_inference_steps=3, sampler="euler").frames
    own.scheduler = diffusers.EulerDiscreteScheduler.from_config(own.scheduler.config)
    assert np.array_equal(own(clip, pad=PAD, num_inference_steps=3).frames, by_name)
    own.save_pretrained(tmp_path / "saved")
    again = quiet(Outpainter.from_pretrained(tmp_path / "saved", device="cpu"))
    assert isinstance(again.scheduler, diffusers.EulerDiscreteScheduler)
    difference = np.abs(again(clip, pad=PAD, num_inference_steps=3).frames.astype(int) - by_name)
    assert difference.max() <= 1  # memory of another alignment is summed in another order
    with pytest.raises(UsageError, match="scheduler is a str; give a diffusers scheduler"):
        own.scheduler = "euler"


def test_a_scheduler_is_assigned_on_an_engine_folder_too(engine_folder, clip):
    with quiet(Outpainter.from_engines(engine_folder, "cpu")) as outpainter:
        by_name = outpainter(clip, pad=PAD, num_inference_steps=2, sampler="unipc").frames
        outpainter.scheduler = diffusers.UniPCMultistepScheduler.from_config(outpainter.scheduler.config)
        assert np.array_equal(outpainter(clip, pad=PAD, num_inference_steps=2).frames, by_name)


def test_components_are_the_parts_and_move_with_the_model(own):
    assert own.components.keys() == {*PARTS, "scheduler"}
    assert own.to(torch.float64) is own
    assert {next(own.components[part].parameters()).dtype for part in PARTS} == {torch.float64}
    assert (own.dtype, own.device) == (torch.float64, torch.device("cpu"))
    own.to("meta", torch.float16)
    assert {next(own.components[part].parameters()).device.type for part in PARTS} == {"meta"}
    assert (own.dtype, own.device.type) == (torch.float16, "meta")
    for wrong in ((), ("cpu", "cpu"), (torch.float16, torch.float32)):
        with pytest.raises(UsageError, match="give one device, one dtype, or one of each"):
            own.to(*wrong)


def test_a_moved_model_outpaints_in_its_new_dtype(own, clip):
    before = own(clip, output_type="latent", **FAST).frames
    after = own.to(torch.float64)(clip, output_type="latent", **FAST).frames
    assert 0 < (before - after).norm() / after.norm() < 1e-4


def test_offloading_loads_one_submodule_at_a_time_and_changes_no_frame(own, clip, monkeypatch):
    """The CPU stands for the GPU: what is moved where is told by the calls."""
    want = own(clip, **FAST).frames
    with pytest.raises(UsageError, match="needs a GPU, and PyTorch sees none"):
        own.enable_model_cpu_offload()
    moves = []
    to = torch.nn.Module.to

    def recorded(module, *args, **kwargs):
        if type(module).__module__ == "hero_rt.models.submodules":
            moves.append((type(module).__name__, str(args[0])))
        return to(module, *args, **kwargs)

    own.enable_model_cpu_offload("cpu:0")
    monkeypatch.setattr(torch.nn.Module, "to", recorded)
    assert np.array_equal(own(clip, pad=PAD, num_inference_steps=1).frames, want)
    names = ["VaeEncoder", "Semantic", "Reference", "FlowResiduals", "UNetStep", "VaeDecoder"]
    pairs = [move for name in names for move in ((name, "cpu:0"), (name, "cpu"))]
    assert moves == pairs[:-1]  # each away before the next, the last one stays


def test_vae_slicing_is_one_frame_at_a_time(own, clip, monkeypatch):
    want = own(clip, output_type="latent", **FAST).frames
    frames = own(clip, **FAST).frames
    own = quiet(Outpainter(EagerEngines(own.engines.model)))
    own.enable_vae_slicing()
    batches = []
    vae = own.components["vae"]
    for part in (vae.encoder, vae.decoder):
        part.register_forward_pre_hook(lambda module, args: batches.append(len(args[0])))
    got = own(clip, output_type="latent", **FAST).frames
    assert (got - want).norm() / want.norm() < 1e-4
    assert np.abs(own(clip, **FAST).frames.astype(int) - frames).max() <= 1
    assert set(batches) == {1}
    own.disable_vae_slicing()
    assert np.array_equal(quiet(Outpainter(EagerEngines(own.engines.model)))(clip, **FAST).frames, frames)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda outpainter, folder: outpainter.to("cpu"), id="to"),
        pytest.param(lambda outpainter, folder: outpainter.components, id="components"),
        pytest.param(lambda outpainter, folder: outpainter.save_pretrained(folder), id="save_pretrained"),
        pytest.param(lambda outpainter, folder: outpainter.enable_model_cpu_offload(), id="offload"),
        pytest.param(lambda outpainter, folder: outpainter.enable_vae_slicing(), id="slicing"),
    ],
)
def test_what_engines_cannot_do_is_one_clear_error(engine_folder, tmp_path, call):
    with (
        Outpainter.from_engines(engine_folder, "cpu") as outpainter,
        pytest.raises(
            UsageError, match=r"needs the PyTorch model, and this outpainter runs .*Outpainter\.from_pretrained"
        ),
    ):
        call(outpainter, tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_a_variant_is_read_and_its_absence_named(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "hero")
    for path in (tmp_path / "hero").rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    shutil.rmtree(tmp_path / "hero" / "image_encoder_2")
    shutil.copytree(tmp_path / "hero" / "image_encoder", tmp_path / "hero" / "image_encoder_2")
    model = HeroModel.from_pretrained(tmp_path / "hero", variant="fp16")
    (saved,) = (tmp_path / "hero" / "vae").glob("*.safetensors")
    assert all(torch.equal(tensor, model["vae"].state_dict()[name]) for name, tensor in load_file(saved).items())
    with pytest.raises(UsageError, match=r"vae/ holds no \.bf16\.safetensors file"):
        HeroModel.from_pretrained(tmp_path / "hero", variant="bf16")["vae"]


def test_the_hubs_options_reach_the_hub(tiny, tmp_path, monkeypatch):
    tiny.save_pretrained(tmp_path / "hero")
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(tmp_path / "hero")

    monkeypatch.setattr(hero_rt.models.hero, "snapshot_download", download)
    options = {"revision": "main", "token": "t", "cache_dir": str(tmp_path), "local_files_only": True}
    Outpainter.from_pretrained("someone/hero", device="cpu", variant="fp16", **options)
    assert asked == options | {"name": "someone/hero", "allow_patterns": ["*.json", "*.fp16.safetensors"]}
    with pytest.raises(UsageError, match="from_pretrained has no argument 'revison'; known: cache_dir"):
        Outpainter.from_pretrained("someone/hero", revison="main")


def test_the_package_exports_what_an_application_needs():
    for name in hero_rt.__all__:
        assert getattr(hero_rt, name) is not None
    assert dir(hero_rt) == sorted(hero_rt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Outpaint'"):
        _ = hero_rt.Outpaint


def test_a_checkpoint_that_is_not_here_is_told_without_a_network(tmp_path):
    options = {"cache_dir": str(tmp_path), "local_files_only": True}
    with pytest.raises(
        UsageError, match=r"'someone/hero' is neither a folder nor hero-tiny.*: it is not in the Hub's cache, and"
    ):
        Outpainter.from_pretrained("someone/hero", **options)


def test_a_stream_is_not_started_for_a_folder_that_is_not_there(outpainter, clip, tmp_path):
    with outpainter.stream(clip, **FAST) as stream:
        with pytest.raises(VideoError, match=r"there is no folder .*no; make it first"):
            stream.save(tmp_path / "no" / "out.mp4")
        assert stream.save(tmp_path / "out.mp4").is_file()
