"""Videos encoded by FFmpeg through PyAV: what is in each picture says which it is."""

import struct
from pathlib import Path

import av
import numpy
import pytest
from one_episode import play
from PIL import Image

from aworld.environments.sandbox import Sandbox

pytestmark = pytest.mark.tools
RATE, SECONDS = 10, 6
TOOLS: dict[str, dict[str, float]] = {"video_frames": {"every": 2}, "video_info": {}}


def encode(path: Path, codec: str = "libx264", sound: bool = False) -> None:
    """Second number n is of the grey 40 n; a picture that stands by itself comes every 2.5 s."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(codec, rate=RATE)
        pictures.width, pictures.height, pictures.pix_fmt, pictures.gop_size = (
            160,
            96,
            "yuvj420p" if codec == "mjpeg" else "yuv420p",
            25,
        )
        voice = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for number in range(RATE * SECONDS):
            grey = numpy.full((96, 160, 3), 40 * (number // RATE), numpy.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(pictures.encode())
        if voice:
            silence = av.AudioFrame.from_ndarray(numpy.zeros((1, 16_000 * SECONDS), numpy.float32), "fltp", "mono")
            silence.rate = 16_000
            container.mux(voice.encode(silence))
            container.mux(voice.encode())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    encode(tmp_path / "files" / "clip.mp4")
    return tmp_path / "files"


def look(name: str) -> tuple[str, dict[str, str]]:
    """A call of `python` that tells the size and the middle grey of a picture."""
    code = f"from PIL import Image\np = Image.open({name!r})\nprint(p.size, p.convert('L').getpixel((80, 48)))"
    return "python", {"code": code}


def test_pictures_are_those_of_their_seconds(sandbox: Sandbox, files: Path) -> None:
    names = ["clip-0.5s.jpg", "clip-4s.jpg", "clip-5.95s.jpg"]
    seen = play(
        "video",
        files,
        ("video_frames", {"path": "clip.mp4", "at": [4, 0.5, 5.95]}),
        *map(look, names),
        sandbox=sandbox,
        servers=("python",),
    )
    assert seen[0].text == f"{names[0]}\t0.50 s\n{names[1]}\t4.00 s\n{names[2]}\t5.90 s"
    assert seen[0].files == tuple(names)
    greys = []
    for one in seen[1:]:
        size, _, grey = one.text.rpartition(" ")
        assert size == "(160, 96)"
        greys.append(int(grey))
    assert greys == pytest.approx([0, 160, 200], abs=3)


def test_every_so_many_seconds(files: Path) -> None:
    codecs = {"clip.mp4": "libx264", "other.webm": "libvpx", "another.mkv": "mpeg4", "old.avi": "mjpeg"}
    for name, codec in codecs.items():
        encode(files / name, codec)
    calls = [(tool, {"path": name} | more) for name in codecs for tool, more in TOOLS.items()]
    seen = play("video", files, *calls)
    for name, frames, info in zip(codecs, seen[::2], seen[1::2], strict=True):
        assert frames.files == tuple(f"{Path(name).stem}-{second}s.jpg" for second in (0, 2, 4))
        shown = [float(line.split("\t")[1][:-2]) for line in frames.text.splitlines()]
        assert shown == pytest.approx([0, 2, 4], abs=0.1)
        assert info.text.splitlines()[0].endswith(", 6.0 s")
        assert "160 x 96 pixels, 10 frames/s" in info.text


def test_what_a_video_is(files: Path) -> None:
    encode(files / "loud.mp4", sound=True)
    (seen,) = play("video", files, ("video_info", {"path": "loud.mp4"}))
    first, pictures, sound = seen.text.splitlines()
    assert first.startswith("mov,mp4,m4a,3gp,3g2,mj2, 6.")
    assert pictures == "video: h264, 160 x 96 pixels, 10 frames/s, 60 frames"
    assert sound == "sound: aac, 16000 Hz, channels: 1"


def test_a_telephone_held_upright(files: Path) -> None:
    """The matrix of its track, by the QuickTime specification, takes (x, y) to (-y, x): left comes to the top."""
    with av.open(str(files / "turned.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        left = numpy.zeros((96, 160, 3), numpy.uint8)
        left[:, :80] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(left)))
        container.mux(stream.encode())
    one = 1 << 16
    as_it_is = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    head, tail = (files / "turned.mp4").read_bytes().split(b"tkhd")
    (files / "turned.mp4").write_bytes(head + b"tkhd" + tail.replace(as_it_is, turned, 1))
    look_at = "from PIL import Image; p = Image.open('turned-0s.jpg').convert('L')"
    code = f"{look_at}; print(p.size, p.getpixel((48, 10)), p.getpixel((48, 150)))"
    _, seen = play(
        "video", files, ("video_frames", {"path": "turned.mp4"}), ("python", {"code": code}), servers=("python",)
    )
    assert seen.text == "(96, 160) 255 0"


def test_there_are_never_more_than_twenty(files: Path) -> None:
    first, on = play(
        "video",
        files,
        ("video_frames", {"path": "clip.mp4", "every": 0.1}),
        ("video_frames", {"path": "clip.mp4", "at": [1.9], "every": 0.1}),
    )
    assert len(first.files) == len(on.files) == 20
    assert first.files[-1] == on.files[0] == "clip-1.9s.jpg"


def test_what_is_no_video_is_one_line(files: Path) -> None:
    (files / "cut.mp4").write_bytes((files / "clip.mp4").read_bytes()[:1000])
    (files / "notes.mp4").write_text("not a video")
    Image.new("L", (8, 8)).save(files / "clip-1s.jpg")
    code = (
        "import os; os.symlink('/etc/passwd', 'link.mp4'); os.remove('clip-1s.jpg'); os.symlink('kept', 'clip-1s.jpg')"
    )
    seen = play(
        "video",
        files,
        ("python", {"code": code}),
        *(("video_info", {"path": name}) for name in ("cut.mp4", "notes.mp4", "link.mp4", "../root")),
        ("video_frames", {"path": "clip.mp4", "at": [60]}),
        ("video_frames", {"path": "clip.mp4", "at": [1]}),
        ("python", {"code": "import os; print(os.path.islink('clip-1s.jpg'), os.path.exists('kept'))"}),
        servers=("python",),
    )
    assert all(one.is_error and "\n" not in one.text for one in seen[1:6])
    assert seen[1].text.startswith("cut.mp4 cannot be read: ") and seen[2].text.startswith("notes.mp4 cannot be read: ")
    assert seen[3].text == "no file 'link.mp4'" and seen[4].text == "no file '../root'"
    assert seen[5].text == "clip.mp4 has no picture at 60 s; it is 6.0 s long"
    assert seen[6].files == ("clip-1s.jpg",) and seen[7].text == "False False"  # a link there is never written through
