"""What a file says about its frames is honoured: orientation, length, colours, pixel shape; and lies are found out."""

import struct
from fractions import Fraction
from itertools import islice, product
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from hero_rt.errors import UsageError, VideoError
from hero_rt.video import open_video
from tests.clips import moving_texture, numbered_frames, real_clip, trim_by_edit_list, turn, write_clip


def read_all(path: Path) -> np.ndarray:
    with open_video(path) as source:
        frames = np.stack(list(source.frames()))
        assert frames.shape[1:3] == (source.height, source.width)
    return frames


UPRIGHT = [(a, 0, 0, d) for a, d in product((1, -1), repeat=2)]
LYING = [(0, b, c, 0) for b, c in product((1, -1), repeat=2)]


@pytest.mark.parametrize("matrix", UPRIGHT + LYING, ids=lambda m: "a{}b{}c{}d{}".format(*m))
def test_every_orientation_of_the_display_matrix_is_applied(tmp_path, matrix):
    stored = moving_texture(1, 32, 48, (0, 0))
    a, b, c, d = matrix
    y, x = np.mgrid[:32, :48]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    shown_x, shown_y = shown_x - shown_x.min(), shown_y - shown_y.min()
    expected = np.zeros((shown_y.max() + 1, shown_x.max() + 1, 3), int)
    expected[shown_y, shown_x] = stored[0]

    frame = read_all(turn(write_clip(tmp_path / "phone.mp4", stored), matrix))[0]
    assert frame.shape == expected.shape
    assert np.abs(frame - expected).mean() < 3


def packet_ranges(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def test_wherever_the_data_is_cut_the_clip_is_refused_and_what_came_before_was_already_given(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    whole = write_clip(tmp_path / "whole.mp4", frames, movflags="+faststart")
    assert len(read_all(whole)) == 8
    data, cut = whole.read_bytes(), tmp_path / "cut.mp4"
    ranges = packet_ranges(whole)
    assert len(ranges) == 8
    for number, (start, size) in enumerate(ranges):
        for end in (start, start + 1, start + size // 2, start + size - 1):
            cut.write_bytes(data[:end])
            seen = []
            with pytest.raises(VideoError, match=r"cut\.mp4") as error, open_video(cut) as source:
                seen.extend(source.frames())
            assert len(seen) <= number
            assert "\n" not in str(error.value)


def test_frames_are_decoded_as_they_are_asked_for(tmp_path):
    whole = write_clip(tmp_path / "long.mp4", moving_texture(60, 32, 32, (1, 0)), movflags="+faststart")
    position, size = packet_ranges(whole)[-1]
    whole.write_bytes(whole.read_bytes()[: position + size // 2])
    with open_video(whole) as source:
        assert len(list(islice(source.frames(), 30))) == 30  # the cut at the end has not been met


def test_samples_that_the_edit_list_hides_are_not_missed(tmp_path):
    path = write_clip(tmp_path / "trimmed.mp4", numbered_frames(20, 32, 32))
    trim_by_edit_list(path, Fraction(8, 25))
    with open_video(path) as source:
        promised = source.num_frames
        frames = list(source.frames())
    assert len(frames) == promised == 8
    assert frames[-1].mean() == pytest.approx(16 + 8 * 7, abs=2)


def test_a_change_of_size_midway_names_both_sizes(tmp_path):
    heights = (48, 32)
    parts = [write_clip(tmp_path / f"{height}.ts", moving_texture(6, height, 64, (1, 0))) for height in heights]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(VideoError, match="from 64x48 to 64x32 midway"):
        read_all(joined)


def test_text_is_not_a_video_even_if_ffmpeg_can_draw_it(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n" * 100)
    with pytest.raises(VideoError, match=r"notes\.txt cannot be opened as a video"):
        open_video(path)


def test_a_song_with_a_cover_has_no_video_stream(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    Image.new("RGB", (32, 32)).save(tmp_path / "cover.png")
    picture = b"\x00image/png\x00\x03\x00" + (tmp_path / "cover.png").read_bytes()
    body = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    length = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    audio = path.read_bytes()
    path.write_bytes(b"ID3\x03\x00\x00" + length + body + audio[audio.index(b"\xff\xfb") :])
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1  # FFmpeg shows the cover as one
    with pytest.raises(VideoError, match="has no video stream"):
        open_video(path)


def rgb_of(y: int, cb: int, cr: int, kr: float, kb: float) -> np.ndarray:
    """Limited-range YCbCr to R'G'B' in 0..255 (ITU-T H.273, 8.3)."""
    luma, blue, red = (y - 16) * 255 / 219, (cb - 128) * 255 / 112, (cr - 128) * 255 / 112
    r, b = luma + (1 - kr) * red, luma + (1 - kb) * blue
    return np.array([r, (luma - kr * r - kb * b) / (1 - kr - kb), b])


@pytest.mark.parametrize(
    ("width", "height", "tag", "kr", "kb"),
    [
        pytest.param(320, 240, 2, 0.299, 0.114, id="untagged-SD-is-BT601"),
        pytest.param(1280, 720, 2, 0.2126, 0.0722, id="untagged-HD-is-BT709"),
        pytest.param(720, 1280, 2, 0.2126, 0.0722, id="untagged-upright-HD-is-BT709"),
        pytest.param(320, 240, 1, 0.2126, 0.0722, id="SD-tagged-BT709"),
        pytest.param(1280, 720, 6, 0.299, 0.114, id="HD-tagged-BT601"),
    ],
)
def test_colours_follow_the_tag_or_else_the_size(tmp_path, width, height, tag, kr, kb):
    path = tmp_path / "colour.mp4"
    planes = np.full((height * 3 // 2, width), 110, np.uint8)
    planes[height : height * 5 // 4], planes[height * 5 // 4 :] = 150, 90
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.codec_context.colorspace = width, height, tag
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.colorspace = tag
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    seen = read_all(path)[0, height // 2, width // 2]
    np.testing.assert_allclose(seen, rgb_of(110, 150, 90, kr, kb), atol=2)


def test_pixel_aspect_is_read_and_turns_with_the_picture(tmp_path):
    with open_video(real_clip("carphone_pristine")) as source:
        assert source.pixel_aspect == Fraction(128, 117)
    data = tmp_path / "turned.mp4"
    data.write_bytes(real_clip("carphone_pristine").read_bytes())
    with open_video(turn(data, (0, 1, -1, 0))) as source:
        assert (source.width, source.height) == (144, 176)
        assert source.pixel_aspect == Fraction(117, 128)


def test_a_file_is_read_once():
    with open_video(real_clip("carphone_pristine")) as source:
        next(source.frames())
        with pytest.raises(VideoError, match="read already"):
            next(source.frames())


def test_images_come_in_natural_order_and_hidden_files_do_not_come(tmp_path):
    for number in (1, 2, 9, 10, 100):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"shot-{number}.png")
    (tmp_path / "._shot-1.png").write_bytes(b"resource fork")
    (tmp_path / "notes.txt").write_text("ignored")
    assert read_all(tmp_path)[:, 0, 0, 0].tolist() == [1, 2, 9, 10, 100]


def test_a_photograph_is_turned_as_its_exif_says(tmp_path):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn clockwise to view
    Image.fromarray(upright).save(tmp_path / "1.jpg", exif=exif, quality=95)
    frame = read_all(tmp_path)[0]
    assert frame.shape == (32, 16, 3)
    assert frame[:12].mean() > 250
    assert frame[20:].mean() < 5


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_damaged_image_is_one_clear_line(tmp_path, suffix):
    path = tmp_path / f"1{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match=rf"1\{suffix} cannot be read as an image") as error:
        open_video(tmp_path)
    assert "\n" not in str(error.value)


def test_deep_images_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "1.png")
    with pytest.raises(VideoError, match="more than 8 bits"):
        open_video(tmp_path)


def test_a_frame_rate_must_be_positive():
    with pytest.raises(UsageError, match="frame rate 0 must be positive"):
        open_video(np.zeros((1, 8, 8, 3), np.uint8), Fraction(0))
