"""Speech by flite, packed by FFmpeg through PyAV, heard in every sandbox that works here."""

import shutil
import subprocess
from pathlib import Path

import av
import numpy
import pytest
from one_episode import play

from aworld.environments.sandbox import Sandbox

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(shutil.which("flite") is None, reason="no flite on PATH, which speaks: apt install flite"),
]
SPEECH = (
    "The weather is very nice today. We will go to the beach. Please bring seven apples and twelve bottles of water."
)
HEARD = SPEECH.lower().replace(".", "").split()
PACKED = {"mp3": "libmp3lame", "m4a": "aac", "ogg": "libopus", "flac": "flac", "mp4": "aac"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    subprocess.run(["flite", "-voice", "rms", "-t", SPEECH, "-o", folder / "said.wav"], check=True)
    return folder


def pack(source: Path, target: Path, codec: str) -> None:
    """As 48 kHz stereo, in an mp4 with a picture."""
    with av.open(str(source)) as spoken, av.open(str(target), "w") as container:
        sound = container.add_stream(codec, rate=48_000, layout="stereo")
        if target.suffix == ".mp4":
            pictures = container.add_stream("libx264", rate=1)
            pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(numpy.zeros((64, 64, 3), numpy.uint8))))
            container.mux(pictures.encode())
        for frame in spoken.decode(audio=0):
            container.mux(sound.encode(frame))
        container.mux(sound.encode())


def words(text: str) -> list[str]:
    return " ".join(line.partition(" s: ")[2] for line in text.splitlines()[1:]).split()


def wrong(heard: list[str], said: list[str]) -> int:
    """How many words have to be put in, left out or replaced (Levenshtein)."""
    row = list(range(len(said) + 1))
    for one in heard:
        before, row[0] = row[0], row[0] + 1
        for at, other in enumerate(said, 1):
            before, row[at] = row[at], min(before + (one != other), row[at] + 1, row[at - 1] + 1)
    return row[-1]


def test_speech_is_heard_under_the_limits_of_an_episode(sandbox: Sandbox, files: Path) -> None:
    (seen,) = play("audio", files, ("transcribe", {"path": "said.wav"}), sandbox=sandbox)
    assert not seen.is_error and seen.text.startswith("pcm_s16le, 16000 Hz, channels: 1, ")
    assert wrong(words(seen.text), HEARD) <= 3


@pytest.mark.deep
def test_the_usual_formats_and_the_sound_of_a_video(files: Path) -> None:
    for suffix, codec in PACKED.items():
        pack(files / "said.wav", files / f"said.{suffix}", codec)
    calls = [("transcribe", {"path": f"said.{suffix}"}) for suffix in PACKED]
    for seen in play("audio", files, *calls):
        assert "48000 Hz, channels: 2, " in seen.text and wrong(words(seen.text), HEARD) <= 5


@pytest.mark.deep
def test_what_there_is_no_time_for_is_heard_by_the_next_call(files: Path) -> None:
    with av.open(str(files / "said.wav")) as spoken:
        samples = numpy.concatenate([frame.to_ndarray() for frame in spoken.decode(audio=0)], axis=1)
    with av.open(str(files / "long.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(numpy.tile(samples, 40), "s16", "mono")  # five minutes of it
        frame.rate = 16_000
        container.mux(stream.encode(frame))
    (first,) = play("audio", files, ("transcribe", {"path": "long.wav"}), call_seconds=5.0)
    assert not first.is_error and "\n[heard as far as " in first.text
    start = float(first.text.rpartition("start=")[2].rstrip("]"))
    length = float(first.text.splitlines()[0].split(", ")[-1][:-2])
    assert 0 < start < length
    (last,) = play("audio", files, ("transcribe", {"path": "long.wav", "start": length - 8}))
    assert "[heard" not in last.text and last.text.endswith("bottles of water")


def test_what_cannot_be_heard_is_one_line(files: Path) -> None:
    silence = numpy.zeros(16_000, numpy.int16).tobytes()
    (files / "silent.wav").write_bytes((files / "said.wav").read_bytes()[:44] + silence)
    (files / "cut.m4a").write_bytes(b"\0\0\0\x1cftypM4A nothing more")
    (files / "notes.mp3").write_text("not a sound")
    names = ["silent.wav", "cut.m4a", "notes.mp3", "../root", "none.wav"]
    seen = [one.text for one in play("audio", files, *(("transcribe", {"path": name}) for name in names))]
    assert seen[0].endswith("(no speech heard)")
    assert seen[1].startswith("cut.m4a cannot be read: ") and seen[2].startswith("notes.mp3 cannot be read: ")
    assert seen[3:] == ["no file '../root'", "no file 'none.wav'"]
    assert all("\n" not in text for text in seen[1:])
