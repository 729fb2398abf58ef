"""Reading and writing real files: what comes out is what went in, and bad files say what is wrong with them."""

import os
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from hero_rt.canvas import Canvas
from hero_rt.errors import UsageError, VideoError
from hero_rt.video import FirstFrames, contact_sheet, create_video, open_video
from tests.clips import BIG_BUCK_BUNNY, CARPHONE, read, write

IDENTITY = b"".join(v.to_bytes(4, "big", signed=True) for v in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))


def moving(frames: int, height: int, width: int) -> np.ndarray:
    """Smooth gradients that differ frame by frame: what a codec keeps almost exactly."""
    t, y, x = np.mgrid[:frames, :height, :width].astype(float)
    rgb = np.stack([128 + 90 * np.sin(x / 19 + t / 5), 128 + 90 * np.cos(y / 17), 60 + 5 * t + 0 * x], axis=-1)
    return rgb.clip(0, 255).astype(np.uint8)


def rotate_metadata(path: Path, quarter_turns: int) -> None:
    """Write a rotation into the track header's matrix (ISO 14496-12), as phones do."""
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns]
    values = (cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    at = data.index(IDENTITY, data.index(b"tkhd"))
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data[:at] + matrix + data[at + len(matrix) :])


def test_a_real_clip_reads_as_pyav_decodes_it():
    with open_video(CARPHONE) as source:
        assert (source.width, source.height) == (176, 144)
        assert source.frame_rate == Fraction(30000, 1001)
        assert source.num_frames == 120
        assert not source.has_audio
        frames = np.stack(list(source.frames()))
    assert np.array_equal(frames, read(CARPHONE))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_metadata_is_applied(tmp_path, turns):
    upright = moving(3, 48, 64)
    path = write(tmp_path / "phone.mp4", upright)
    rotate_metadata(path, turns)
    with open_video(path) as source:
        frames = np.stack(list(source.frames()))
        assert (source.height, source.width) == frames.shape[1:3]
    # a display matrix of +90 degrees turns the stored picture clockwise
    want = np.rot90(upright, -turns, axes=(1, 2))
    assert frames.shape == want.shape
    assert np.abs(frames.astype(int) - want).mean() < 3


@pytest.mark.parametrize(("height", "width"), [pytest.param(64, 96, id="even"), pytest.param(45, 77, id="odd")])
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25), Fraction(8)], ids=str)
def test_written_video_keeps_frames_size_and_exact_rate(tmp_path, height, width, rate):
    frames = moving(12, height, width)
    with create_video(tmp_path / "out.mp4", width, height, rate, crf=4) as writer:
        writer.write(frames[:5])
        for frame in frames[5:]:
            writer.write(frame)
    assert os.listdir(tmp_path) == ["out.mp4"]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].average_rate == rate
    again = read(tmp_path / "out.mp4")
    assert again.shape == frames.shape
    assert np.abs(again.astype(int) - frames).mean() < 3


def test_high_definition_is_tagged_and_converted_as_bt709(tmp_path):
    colour = np.broadcast_to(np.array([200, 40, 90], np.uint8), (2, 720, 1280, 3))
    with create_video(tmp_path / "hd.mp4", 1280, 720, Fraction(25), crf=4) as writer:
        writer.write(colour)
    with av.open(str(tmp_path / "hd.mp4")) as container:
        frame = next(container.decode(video=0))
    assert int(frame.colorspace) == 1
    y = frame.to_ndarray(format="yuv444p")[0, 400, 600]
    luma = 0.2126 * 200 + 0.7152 * 40 + 0.0722 * 90  # BT.709, limited range
    assert y == pytest.approx(16 + luma * 219 / 255, abs=2)


def test_audio_packets_are_copied_byte_for_byte_as_far_as_the_video_lasts(tmp_path):
    with open_video(BIG_BUCK_BUNNY) as source:
        assert source.has_audio
        rate = source.frame_rate
    with create_video(tmp_path / "out.mp4", 64, 36, rate, audio_from=BIG_BUCK_BUNNY) as writer:
        writer.write(moving(50, 36, 64))  # two seconds

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    copied, original = packets(tmp_path / "out.mp4"), packets(BIG_BUCK_BUNNY)
    assert copied == original[: len(copied)]
    with av.open(str(tmp_path / "out.mp4")) as container:
        audio = container.streams.audio[0]
        assert float(audio.duration * audio.time_base) == pytest.approx(2.0, abs=0.1)


def test_audio_that_the_container_cannot_hold_names_the_way_out(tmp_path):
    with pytest.raises(VideoError, match=r"\.webm cannot hold the source's aac audio; write \.mkv, or .* --no-audio"):
        create_video(tmp_path / "out.webm", 64, 36, Fraction(25), audio_from=BIG_BUCK_BUNNY, codec="libvpx")
    assert os.listdir(tmp_path) == []


def test_png_folder_is_lossless_and_reads_back_in_natural_order(tmp_path):
    frames = moving(12, 20, 30)
    with create_video(tmp_path / "out", 30, 20, Fraction(8)) as writer:
        writer.write(frames)
    for image in sorted((tmp_path / "out").iterdir()):
        image.rename(image.with_name(f"frame{int(image.stem)}.png"))  # frame10 sorts before frame9 as text
    with open_video(tmp_path / "out", Fraction(12)) as source:
        assert source.frame_rate == 12
        assert source.num_frames == 12
        assert np.array_equal(np.stack(list(source.frames())), frames)


def test_arrays_are_clips_too_and_can_be_cut():
    frames = moving(9, 20, 30)
    assert np.array_equal(np.stack(list(open_video(frames).frames())), frames)
    cut = FirstFrames(open_video(frames), 4)
    assert cut.num_frames == 4
    assert np.array_equal(np.stack(list(cut.frames())), frames[:4])
    with pytest.raises(UsageError, match=r"video array is float64\[2, 4\], expected uint8\[N, h, w, 3\]"):
        open_video(np.zeros((2, 4)))


def test_a_failure_midway_leaves_nothing(tmp_path):
    for name in ("out.mp4", "out"):
        with pytest.raises(ValueError, match="boom"), create_video(tmp_path / name, 30, 20, Fraction(8)) as writer:
            writer.write(moving(3, 20, 30))
            raise ValueError("boom")
    with (
        pytest.raises(VideoError, match=r"takes uint8 frames \[20, 30, 3\], got uint8\[20, 31, 3\]"),
        create_video(tmp_path / "out.mp4", 30, 20, Fraction(8)) as writer,
    ):
        writer.write(moving(3, 20, 31))
    assert os.listdir(tmp_path) == []


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    text = folder / "text.mp4"
    text.write_text("not a video at all" * 100)
    whole = CARPHONE.read_bytes()
    moov_last = folder / "moov.mp4"
    moov_last.write_bytes(whole[: len(whole) // 2])
    cut = folder / "cut.mp4"
    faststart = write(folder / "fast.mp4", read(CARPHONE, 40), options={"movflags": "faststart"}).read_bytes()
    cut.write_bytes(faststart[: len(faststart) * 6 // 10])
    audio_only = folder / "audio.m4a"
    with av.open(str(BIG_BUCK_BUNNY)) as source, av.open(str(audio_only), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    (folder / "empty").mkdir()
    mixed = folder / "mixed"
    mixed.mkdir()
    Image.new("RGB", (30, 20)).save(mixed / "0.png")
    Image.new("RGB", (31, 20)).save(mixed / "1.png")
    return {
        "missing": (folder / "nowhere.mp4", "does not exist"),
        "not-a-video": (text, "cannot be opened as a video"),
        "empty-file": (Path(os.devnull), "cannot be opened as a video"),
        "truncated-header": (moov_last, "cannot be opened as a video"),
        "truncated-data": (cut, "is truncated|cannot be decoded"),
        "no-video-stream": (audio_only, "has no video stream"),
        "empty-folder": (folder / "empty", "holds no images"),
        "mixed-sizes": (mixed, r"1\.png is 31x20, 0\.png is 30x20"),
    }


@pytest.mark.parametrize(
    "case",
    ["missing", "not-a-video", "empty-file", "truncated-header", "truncated-data", "no-video-stream", "empty-folder", "mixed-sizes"],
)  # fmt: skip
def test_bad_input_is_one_clear_line(tmp_path, case):
    path, message = bad_files(tmp_path)[case]
    with pytest.raises(VideoError, match=message) as caught, open_video(path) as source:
        list(source.frames())
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_zero_frames_are_refused(tmp_path):
    with pytest.raises(VideoError, match="zero frames"):
        open_video(np.zeros((0, 8, 8, 3), np.uint8))


DISK_FULL = """
import resource, sys
from fractions import Fraction
from tests.runtime.test_video import moving
from hero_rt.errors import VideoError
from hero_rt.video import create_video
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with create_video(sys.argv[1], 640, 360, Fraction(25), crf=1) as writer:
        for _ in range(10):
            writer.write(moving(10, 360, 640))
except VideoError as error:
    print(error)
"""


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """A file size limit stands in for the disk: the same failing write, without needing to mount one."""
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path / "out.mp4")], capture_output=True, text=True, check=True
    )
    assert "cannot be written after" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_contact_sheet_shows_the_source_on_grey_and_the_result():
    canvas = Canvas.from_padding(30, 20, (0, 10, 0, 6))
    result = moving(9, 20, 46)
    sheet = np.asarray(contact_sheet(result, canvas, columns=3))
    assert sheet.shape == (8 + 2 * (22 + 20 + 8), 8 + 3 * (46 + 8), 3)
    first = sheet[30:50, 8:54]
    assert (first[:, :6] == 96).all()
    assert np.array_equal(first[:, 6:36], result[0, :, 6:36])
    assert np.array_equal(sheet[80:100, 8 + 2 * 54 : 8 + 2 * 54 + 46], result[-1])
