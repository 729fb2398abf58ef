"""The commands as a user types them: exit codes, one line for each mistake, real output."""

import importlib
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from typer.main import get_command

import hero_export.cli
import hero_rt.cli
from hero_rt.outpainter import Outpainter
from hero_rt.request import OutpaintRequest
from tests.clips import BIG_BUCK_BUNNY, read, small_clip, write_clip


def run(main, *arguments: object) -> int:
    """The exit code of a command's main, in this process."""
    argv, sys.argv = sys.argv, ["command", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = argv
    return 0


def outpaint(*arguments: object) -> int:
    return run(hero_rt.cli.main, "outpaint", *arguments)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", small_clip(20))


PAD = ("--pad", "0,24,0,24")


def test_outpaint_writes_a_video_and_a_contact_sheet(engine_folder, clip, tmp_path, capsys):
    out, sheet = tmp_path / "out.mp4", tmp_path / "sheet.png"
    code = outpaint(clip, out, "--engines", engine_folder, *PAD, "--steps", 2, "--contact-sheet", sheet)
    assert code == 0
    assert "80x64 to 128x64 (top 0, right 24, bottom 0, left 24)" in capsys.readouterr().err
    frames = read(out)
    assert frames.shape == (20, 64, 128, 3)
    assert np.abs(frames[:, :, 24:-24].astype(int) - read(clip)).mean() < 4
    assert Image.open(sheet).size[1] > 2 * 64


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_stopped_run_leaves_nothing_half_written(engine_folder, clip, tmp_path, number, code):
    out = tmp_path / "out"
    out.mkdir()
    arguments = [clip, out / "out.mp4", "--engines", engine_folder, *PAD, "--steps", 1000]
    # a shell's background jobs start with SIGINT ignored, and so would what they start
    source = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import hero_rt.cli as c; c.main()"
    )
    command = [sys.executable, "-c", source, "outpaint", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.iterdir()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [path.name.endswith(".part.mp4") for path in out.iterdir()] == [True]
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert (err.splitlines()[-1] == "interrupted") == (number == signal.SIGINT)
    assert list(out.iterdir()) == []


def test_png_output_keeps_source_pixels_bit_exact_in_both_modes(engine_folder, clip, tmp_path):
    for mode in ("joint", "stream"):
        assert outpaint(clip, tmp_path / mode, "--engines", engine_folder, *PAD, "--steps", 1, "--mode", mode) == 0
        images = [np.asarray(Image.open(path)) for path in sorted((tmp_path / mode).iterdir())]
        assert np.array_equal(np.stack(images)[:, :, 24:-24], read(clip))


def test_checkpoint_runs_without_engines_and_a_seed_repeats(tiny, clip, tmp_path):
    tiny.save_pretrained(tmp_path / "hero")
    arguments = ("--checkpoint", tmp_path / "hero", "--task", "OPH", "--ratio", "0.5", "--steps", 1, "--max-frames", 3)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert outpaint(clip, tmp_path / name, *arguments, "--seed", seed) == 0
    a, b, c = ([path.read_bytes() for path in sorted((tmp_path / name).iterdir())] for name in "abc")
    assert len(a) == 3
    assert a == b
    assert a != c
    assert Image.open(tmp_path / "a" / "000000.png").size == (80, 128)


def test_a_request_file_is_read_and_options_go_over_it(engine_folder, clip, tmp_path):
    request = OutpaintRequest.from_keywords(pad=(0, 24, 0, 24), steps=2, seed=5, max_frames=16)
    (tmp_path / "request.json").write_text(request.model_dump_json())
    arguments = ("--engines", engine_folder, "--request", tmp_path / "request.json")
    assert outpaint(clip, tmp_path / "read", *arguments) == 0
    assert outpaint(clip, tmp_path / "changed", *arguments, "--seed", 6) == 0
    got = {}
    for name in ("read", "changed"):
        got[name] = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / name).iterdir())])
    with Outpainter.from_engines(engine_folder) as outpainter:
        for name, seed in (("read", 5), ("changed", 6)):
            want = outpainter(read(clip)[:16], pad=(0, 24, 0, 24), num_inference_steps=2, seed=seed).frames
            assert np.array_equal(got[name], want)


def test_schema_is_the_requests(capsys):
    assert run(hero_rt.cli.main, "schema") == 0
    assert json.loads(capsys.readouterr().out) == OutpaintRequest.model_json_schema()


def test_profile_writes_a_trace(engine_folder, clip, tmp_path):
    trace = tmp_path / "trace.json"
    arguments = ("--engines", engine_folder, *PAD, "--steps", 2, "--max-frames", 16, "--profile", trace)
    assert outpaint(clip, tmp_path / "out", *arguments) == 0
    names = [event["name"] for event in json.loads(trace.read_text())["traceEvents"]]
    assert names.count("unet_step") == 2


def test_eta_is_the_outpainters(engine_folder, clip, tmp_path):
    arguments = ("--engines", engine_folder, *PAD, "--steps", 2, "--max-frames", 16, "--seed", 5)
    got = {}
    for eta in (0, 1):
        assert outpaint(clip, tmp_path / str(eta), *arguments, "--eta", eta) == 0
        got[eta] = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / str(eta)).iterdir())])
    outpainter = Outpainter.from_engines(engine_folder)
    generator = torch.Generator().manual_seed(5)
    drawn = outpainter(read(clip)[:16], pad=(0, 24, 0, 24), num_inference_steps=2, eta=1.0, generator=generator)
    assert np.array_equal(got[1], drawn.frames)
    assert not np.array_equal(got[1], got[0])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["nowhere.mp4", "{out}", "--engines", "{engines}", *PAD], 1, "nowhere.mp4 does not exist", id="missing"),
        pytest.param([__file__, "{out}", "--engines", "{engines}", *PAD], 1, "cannot be opened as a video", id="not-a-video"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", "--pad", "0,-8,0,8"], 2, "pad right is -8", id="negative"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", "--pad", "0,8"], 2, "is not 4 whole numbers", id="pad"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", "--size", "64x64"], 2, "smaller than the source", id="small"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", "--task", "OPV"], 2, "needs a ratio", id="ratio"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}"], 2, "exactly one of pad, size, aspect and task", id="no-canvas"),
        pytest.param(["{clip}", "{out}", *PAD], 2, "exactly one of --engines and --checkpoint", id="no-engines"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", "--pad", "0,32,0,32"], 4, "only for 128x64x16", id="profile"),
        pytest.param(["{clip}", "{out}", "--engines", "{tmp}", *PAD], 4, "not an engine folder", id="no-manifest"),
        pytest.param(["{clip}", "{out}", "--checkpoint", "{tmp}", *PAD], 2, "model_index.json is missing", id="checkpoint"),
        pytest.param(["{clip}", "{tmp}/no/out.mp4", "--engines", "{engines}", *PAD], 2, "there is no folder", id="no-folder"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", *PAD, "--sampler", "x"], 2, "unknown sampler 'x'", id="sampler"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", *PAD, "--steps", "0"], 2, "steps is 0", id="steps"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", *PAD, "--anchor", "top"], 2, "anchor has no effect with pad", id="anchor"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", *PAD, "--contact-sheet", "{tmp}/no/sheet.png"], 2, "there is no folder", id="sheet"),
        pytest.param(["{clip}", "{tmp}/png", "--engines", "{engines}", *PAD, "--crf", "20"], 2, "crf has no effect on the PNG folder", id="crf"),
        pytest.param(["{clip}", "{tmp}/png/", "--engines", "{engines}", *PAD, "--no-audio"], 2, "audio has no effect on the PNG folder", id="audio"),
        pytest.param(["{clip}", "{out}", "--engines", "{tmp}/no", *PAD], 4, "does not exist", id="no-engine-folder"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", *PAD, "--frame-rate", "25"], 2, "has a rate of its own", id="frame-rate"),
        pytest.param(["{clip}", "{out}", "--engines", "{engines}", "--request", "{tmp}/no.json"], 2, "no.json cannot be read", id="request"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_with_their_exit_code(engine_folder, clip, tmp_path, capfd, arguments, code, message):
    names = {"out": tmp_path / "out.mp4", "engines": engine_folder, "clip": clip, "tmp": tmp_path}
    assert outpaint(*(argument.format(**names) for argument in arguments)) == code
    err = capfd.readouterr().err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*out*"))


def test_unknown_option_is_a_usage_error(capsys):
    assert outpaint("--colour", "blue") == 2
    assert "No such option" in capsys.readouterr().err


def test_info_lists_every_engine_and_finds_damage(engine_folder, tmp_path, capsys):
    assert run(hero_rt.cli.main, "info", engine_folder) == 0
    out = capsys.readouterr().out
    assert "hero-tiny, onnxruntime" in out
    assert "all files intact" in out
    assert run(hero_rt.cli.main, "info", tmp_path) == 4


@pytest.mark.parametrize(
    ("main", "command", "words"),
    [
        pytest.param(hero_rt.cli.main, "outpaint", ["--pad", "--task", "Examples", "OPV"], id="outpaint"),
        pytest.param(hero_rt.cli.main, "info", ["Example"], id="info"),
        pytest.param(hero_export.cli.main, "onnx", ["--preset", "--dtype", "Example"], id="onnx"),
        pytest.param(hero_export.cli.main, "build-engines", ["--profile", "--format", "Example"], id="build-engines"),
    ],
)
def test_help_has_examples(capsys, main, command, words):
    assert run(main, command, "--help") == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)


ONNX = ("onnx", "--out", "{tmp}", "--profile", "64x64x16")


def test_export_onnx_writes_a_file_a_profile_and_leaves_no_weights_that_no_graph_names(tmp_path, capsys):
    profiles = ("--profile", "64x64x16", "--profile", "72x72..80x80..96x96x16")
    base = ("onnx", "random", "--out", tmp_path, "--preset", "hero-tiny", "--submodule", "vae_decoder", *profiles)
    for seed in (0, 1):
        assert run(hero_export.cli.main, *base, "--seed", seed) == 0
    names = {path.name for path in tmp_path.iterdir()}
    words = (tmp_path / "vae_decoder.72x72..80x80..96x96x16.shapes").read_text().split()
    assert words == [f"--{w}Shapes=latents:16x4x{n}x{n}" for w, n in (("min", 9), ("opt", 10), ("max", 12))]
    graph = onnx.load(tmp_path / "vae_decoder.72x72..80x80..96x96x16.onnx", load_external_data=False).graph
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [
        16,
        4,
        "height_8",
        "width_8",
    ]
    assert {node.name.split("/")[0].split(".")[0] for node in graph.node} == {
        "vae_decoder",
        "decoder",
        "post_quant_conv",
    }
    assert {name for name in names if name.endswith(".onnx")} == {
        "vae_decoder.64x64x16.onnx", "vae_decoder.72x72..80x80..96x96x16.onnx",
    }  # fmt: skip
    stored = {
        entry.value
        for path in tmp_path.glob("*.onnx")
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert {name for name in names if name.endswith(".data")} == stored
    summary = capsys.readouterr().err
    assert "vae_decoder.64x64x16.onnx: export" in summary
    assert "2 of 2: vae_decoder" in summary  # plain lines: stderr is no terminal here
    assert max(map(len, summary.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([*ONNX, "random"], "checkpoint 'random' has no sizes of its own; add --preset", id="no-preset"),
        pytest.param([*ONNX, "random", "--preset", "hero-xl"], "unknown preset 'hero-xl'", id="preset"),
        pytest.param(["onnx", "random", "--out", "{tmp}", "--profile", "250x64x16"], "multiples of 8", id="width"),
        pytest.param([*ONNX, "random", "--preset", "hero-tiny", "--dtype", "int8"], "'int8' is not one of 'fp32', 'fp16'", id="dtype"),
        pytest.param([*ONNX, "random", "--preset", "hero-tiny", "--submodule", "x"], "submodule 'x'", id="submodule"),
        pytest.param(["build-engines", "nowhere", "--out", "{tmp}/e", "--profile", "64x64x16"], "neither a folder", id="checkpoint"),
        pytest.param(
            ["build-engines", "random", "--preset", "hero-tiny", "--out", "{tmp}/e", "--profile", "64x64"],
            "is not WIDTHxHEIGHT", id="profile",
        ),
    ],
)  # fmt: skip
def test_export_mistakes_are_usage_errors(tmp_path, capfd, arguments, message):
    assert run(hero_export.cli.main, *(argument.format(tmp=tmp_path) for argument in arguments)) == 2
    err = capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_bare_import_loads_neither_torch_nor_any_vendor():
    code = "import sys, hero_rt; print(sorted({'torch', 'onnxruntime', 'tensorrt', 'cv2', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert importlib.util.find_spec("onnxruntime")


def test_audio_of_the_source_is_kept(engine_folder, tmp_path):
    """A clip with the sound of a real one, through the command."""
    silent = write_clip(tmp_path / "silent.mp4", small_clip(16))
    loud = tmp_path / "loud.mp4"
    with av.open(str(silent)) as video, av.open(str(BIG_BUCK_BUNNY)) as audio, av.open(str(loud), "w") as target:
        streams = {
            video.streams.video[0]: target.add_stream_from_template(video.streams.video[0]),
            audio.streams.audio[0]: target.add_stream_from_template(audio.streams.audio[0]),
        }
        for source, stream in streams.items():
            for packet in source.container.demux(source):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    for flag, streams_wanted in (("--audio", 1), ("--no-audio", 0)):
        out = tmp_path / f"out{flag}.mp4"
        assert outpaint(loud, out, "--engines", engine_folder, *PAD, "--steps", 1, flag) == 0
        with av.open(str(out)) as container:
            assert len(container.streams.audio) == streams_wanted


def test_build_engines_command_reports_each_engine(engine_folder, tmp_path, capsys):
    copy = shutil.copytree(engine_folder, tmp_path / "engines")
    arguments = ["random", "--preset", "hero-tiny", "--profile", "128x64x16", "--out", copy]
    assert run(hero_export.cli.main, "build-engines", *arguments) == 0
    table = capsys.readouterr().err
    assert table.count("│ kept") == 7  # six submodules, and the step with guidance that the folder held already


@pytest.mark.parametrize("module", ["hero_rt.cli", "hero_export.cli", "hero_train.cli", "benchmarks.cli"])
def test_every_command_has_help(capsys, module):
    """Help is markup: a path in square brackets is a tag to it."""
    app = importlib.import_module(module).app
    for command in get_command(app).commands:
        with pytest.raises(SystemExit) as stop:
            app([command, "--help"])
        assert stop.value.code == 0
        assert f"{command} [OPTIONS]" in capsys.readouterr().out
