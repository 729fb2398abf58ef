"""What is written is whole or absent, plays as it should, and fails before the work rather than after it."""

import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from hero_rt.errors import VideoError
from hero_rt.request import OutputOptions
from hero_rt.spec.canvas import Canvas
from hero_rt.video import contact_sheet, create_video, open_video
from tests.clips import moving_texture, real_clip

RATE = Fraction(25)


def black(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.zeros((count, height, width, 3), np.uint8)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def audio_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize(
    ("width", "height", "pixels"),
    [(48, 32, "yuv420p"), (47, 32, "yuv444p"), (48, 31, "yuv444p"), (47, 31, "yuv444p")],
    ids=lambda value: str(value),
)
def test_odd_sizes_are_written_without_losing_a_column_or_row(tmp_path, width, height, pixels):
    grey = moving_texture(3, height, width, (1, 0))[..., :1]  # 4:2:0 blurs colour by design
    frames = grey.repeat(3, axis=-1)
    with create_video(tmp_path / "out.mp4", width, height, RATE, OutputOptions(crf=4)) as writer:
        writer.write(frames)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].pix_fmt == pixels
    with open_video(tmp_path / "out.mp4") as source:
        again = np.stack(list(source.frames())).astype(int)
    assert np.abs(again - frames).mean() < 3


@pytest.mark.parametrize(
    ("width", "height", "code", "kr", "kb"),
    [
        pytest.param(320, 240, 6, 0.299, 0.114, id="SD-BT601"),
        pytest.param(1280, 720, 1, 0.2126, 0.0722, id="HD-BT709"),
        pytest.param(720, 1280, 1, 0.2126, 0.0722, id="upright-HD-BT709"),
    ],
)
def test_tags_and_planes_agree_on_the_matrix(tmp_path, width, height, code, kr, kb):
    r, g, b = 200, 40, 90
    with create_video(tmp_path / "out.mp4", width, height, RATE, OutputOptions(crf=1)) as writer:
        writer.write(np.broadcast_to(np.array([r, g, b], np.uint8), (2, height, width, 3)))
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = context.colorspace, context.color_primaries, context.color_trc, context.color_range
        frame = next(container.decode(video=0)).to_ndarray()
    assert [int(tag) for tag in tags] == [code, code, code, 1]  # the last: limited range
    luma = kr * r + (1 - kr - kb) * g + kb * b
    expected = (
        16 + 219 * luma / 255,
        128 + 112 * (b - luma) / (1 - kb) / 255,
        128 + 112 * (r - luma) / (1 - kr) / 255,
    )
    planes = frame[0, 0], frame[height, 0], frame[height * 5 // 4, 0]
    np.testing.assert_allclose(np.array(planes, float), expected, atol=1.5)


def test_pixel_aspect_survives(tmp_path):
    with create_video(tmp_path / "out.mp4", 48, 32, RATE, pixel_aspect=Fraction(128, 117)) as writer:
        writer.write(black(2))
    with open_video(tmp_path / "out.mp4") as source:
        assert source.pixel_aspect == Fraction(128, 117)


def test_the_index_comes_before_the_frames(tmp_path):
    with create_video(tmp_path / "out.mp4", 48, 32, RATE) as writer:
        writer.write(black(2))
    data, at, order = (tmp_path / "out.mp4").read_bytes(), 0, []
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        order.append(kind)
        at += size
    assert order.index(b"moov") < order.index(b"mdat")


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"older")
    with pytest.raises(VideoError, match="takes uint8"), create_video(target, 48, 32, RATE) as writer:
        writer.write(black(3, height=30))
    assert target.read_bytes() == b"older"
    with create_video(target, 48, 32, RATE) as writer:
        writer.write(black(3))
        assert target.read_bytes() == b"older"
    assert len(target.read_bytes()) > 100
    assert names(tmp_path) == ["out.mp4"]


def test_a_clip_can_be_replaced_by_its_own_outpainting(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(real_clip("bigbuckbunny").read_bytes())
    original = [packet for _, packet in audio_packets(path)]
    with open_video(path) as source, create_video(path, 48, 32, source.frame_rate, audio_from=path) as writer:
        writer.write(black(25))
    copied = [packet for _, packet in audio_packets(path)]
    assert 40 < len(copied) < len(original)
    assert copied == original[: len(copied)]


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_no_frames_are_an_error_and_leave_nothing(tmp_path, name):
    with pytest.raises(VideoError, match="there were no frames"), create_video(tmp_path / name, 48, 32, RATE):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("/sys/out.mp4", "cannot be written: (Permission|Operation not|Read-only)", id="unwritable-folder"),
        pytest.param("missing/out.mp4", r"missing/out\.mp4 cannot be written: there is no folder .*missing; make it first", id="missing-folder"),
        pytest.param("file/out.mp4", "there is no folder .*file; make it first", id="folder-is-a-file"),
        pytest.param("out.xyz", r"use \.mp4", id="unknown-suffix"),
        pytest.param("out.png", r"use \.mp4", id="image-suffix"),
        pytest.param("out.webm", r"does not support 'libx264' codec; use \.mp4", id="codec-that-does-not-fit"),
        pytest.param("folder.mp4", "is a folder", id="target-is-a-folder"),
        pytest.param("full", "not an empty folder", id="folder-in-use"),
        pytest.param("full/", "not an empty folder", id="folder-in-use-by-its-slash"),
    ],
)  # fmt: skip
def test_a_target_that_cannot_be_written_is_refused_before_the_first_frame(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.png").write_bytes(b"kept")
    before = names(tmp_path)
    with pytest.raises(VideoError, match=message) as error:
        create_video(f"{tmp_path}/{name}" if not name.startswith("/") else name, 48, 32, RATE)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == before


def test_a_slash_means_a_folder_even_after_a_suffix(tmp_path):
    with create_video(f"{tmp_path}/out.frames/", 48, 32, RATE) as writer:
        writer.write(black(2))
    assert names(tmp_path / "out.frames") == ["000000.png", "000001.png"]


def test_audio_before_the_first_video_frame_is_left_out_and_the_rest_stays_in_time(tmp_path):
    """A source whose video begins one second in: that second becomes time 0, for the audio too."""
    late = tmp_path / "late.mkv"
    with av.open(str(real_clip("bigbuckbunny"))) as donor, av.open(str(late), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height = 48, 32
        audio = container.add_stream_from_template(donor.streams.audio[0])
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(black(1)[0], format="rgb24")
            frame.pts, frame.time_base = number + 25, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for packet in donor.demux(audio=0):
            if packet.size:
                packet.stream = audio
                container.mux(packet)
    before = audio_packets(late)
    with create_video(tmp_path / "out.mp4", 48, 32, RATE, audio_from=late) as writer:
        writer.write(black(50))
    after = audio_packets(tmp_path / "out.mp4")

    assert len(after) > 80
    first = [packet for _, packet in before].index(after[0][1])
    assert 40 < first < 50  # about 47 packets of 1024 samples a second
    for (time, packet), (source_time, source_packet) in zip(after, before[first:], strict=False):
        assert packet == source_packet
        assert abs(time - (source_time - 1)) < Fraction(2, 1000)  # Matroska keeps milliseconds
    assert after[-1][0] < 2


def test_audio_of_a_transport_stream_still_decodes_in_an_mp4(tmp_path):
    broadcast = tmp_path / "broadcast.ts"
    with av.open(str(real_clip("bigbuckbunny"))) as donor, av.open(str(broadcast), "w") as container:
        stream = container.add_stream_from_template(donor.streams.audio[0])
        for packet in donor.demux(audio=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    with create_video(tmp_path / "out.mp4", 48, 32, RATE, audio_from=broadcast) as writer:
        writer.write(black(50))
    with av.open(str(tmp_path / "out.mp4")) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert samples == pytest.approx(2 * 48000, abs=2 * 1024)


def test_unreadable_audio_is_laid_to_the_source_not_the_target(tmp_path):
    with pytest.raises(VideoError, match=r"gone\.mp4: the audio cannot be read: .*--no-audio"):
        create_video(tmp_path / "out.mp4", 48, 32, RATE, audio_from=tmp_path / "gone.mp4")
    assert names(tmp_path) == []


def test_a_contact_sheet_of_large_frames_stays_small():
    canvas = Canvas(1280, 720, 0, 320, 0, 320)
    sheet = contact_sheet(black(9, 720, 1920), canvas, columns=6)
    assert sheet.width < 6 * 400
    pixels = np.asarray(sheet)
    assert (pixels[30 + 70, 8 + 20] == 96).all()  # the input's padding
    assert (pixels[30 + 70, 8 + 190] == 0).all()  # the input


DISK_FULL = """
import resource, signal, sys
from fractions import Fraction
from hero_rt.errors import VideoError
from hero_rt.request import OutputOptions
from hero_rt.video import create_video
from tests.clips import moving_texture
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with create_video(sys.argv[1], 640, 360, Fraction(25), OutputOptions(crf=1)) as writer:
        for _ in range(10):
            writer.write(moving_texture(4, 360, 640, (3, 1)))
except VideoError as error:
    print(error)
"""


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """A file size limit stands in for the disk: the same failing write, without a disk to fill."""
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path / "out.mp4")], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
