"""Tools that ask a model, against a server on this machine that speaks the endpoints' documented protocol."""

import asyncio
import base64
import io
import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_web import Reply
from model_server import Model, model_serving
from PIL import Image

from aworld.tools.common.result import UNANSWERED, Result
from aworld.tools.reasoning import reasoning
from aworld.tools.speech import speech
from aworld.tools.vision import vision

pytestmark = pytest.mark.tools
KEY = "sk-none-of-your-business"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.chdir(tmp_path)
    with model_serving(monkeypatch, KEY) as model:
        yield model


def result(call: Any) -> tuple[str, bool]:
    found: Result = asyncio.run(call)
    assert KEY not in found.text
    assert not found.is_error or "\n" not in found.text
    return found.text, found.is_error


def refused(call: Any) -> str:
    text, is_error = result(call)
    assert is_error
    return text


def seen(model: Model) -> tuple[str, Image.Image]:
    """The media type and the picture of the last request."""
    url = model.asked[-1].json["messages"][0]["content"][1]["image_url"]["url"]
    head, _, content = url.partition(";base64,")
    return head, Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def test_a_picture_and_a_question_are_sent(model: Model) -> None:
    Image.new("RGB", (40, 30), "red").save("cat.png")
    assert result(vision("cat.png", "What animal?")) == ("a cat", False)
    (asked,) = model.asked
    assert asked.path == "/v1/chat/completions" and asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.json["model"] == "vision-model" and len(asked.json["messages"]) == 1
    assert asked.json["messages"][0]["content"][0] == {"type": "text", "text": "What animal?"}
    kind, picture = seen(model)
    assert (kind, picture.format, picture.size) == ("data:image/png", "PNG", (40, 30))
    assert picture.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


def test_large_pictures_are_made_smaller(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4096, 1024)).save("wide.png")
    result(vision("wide.png"))
    assert seen(model)[1].size == (2048, 512)
    monkeypatch.setenv("AWORLD_VISION_PIXELS", "100")
    result(vision("wide.png"))
    assert seen(model)[1].size == (100, 25)


def test_pictures_arrive_as_they_are_meant(model: Model) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side
    Image.new("RGB", (60, 20)).save("photo.jpg", exif=turned)
    result(vision("photo.jpg"))
    kind, picture = seen(model)
    assert (kind, picture.format, picture.size) == ("data:image/jpeg", "JPEG", (20, 60))
    Image.new("I;16", (2, 2), 0x4000).save("deep.tiff")
    result(vision("deep.tiff"))
    assert seen(model)[1].convert("L").getpixel((0, 0)) == 0x40
    clear = Image.new("P", (2, 2), 1)
    clear.putpalette([0, 0, 0, 9, 8, 7])
    clear.save("clear.gif", transparency=1)
    result(vision("clear.gif"))
    assert seen(model)[1].mode == "RGBA"
    Image.new("CMYK", (3, 2)).save("print.jpg")
    result(vision("print.jpg"))
    assert seen(model)[1].mode == "RGB"


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG by its specification, with whatever data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "none of PNG, JPEG"),
        (b"hello", "none of PNG, JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "none of PNG, JPEG"),
        (png(12_000, 7_000), "more than 80000000 pixels"),
        (png(60_000, 60_000), "more than 80000000 pixels"),
        (png(50, 50, b"too little"), "damaged"),
    ],
    ids=["empty", "text", "postscript", "large", "bomb", "damaged"],
)
def test_what_is_no_picture_is_not_sent(content: bytes, words: str, model: Model) -> None:
    Path("x.png").write_bytes(content)
    assert words in refused(vision("x.png")) and not model.asked


def test_an_audio_file_is_sent_as_it_is(model: Model) -> None:
    content = b"ID3" + bytes(range(256)) * 4 + b"\r\n--"
    Path("a talk.mp3").write_bytes(content)
    model.says = " Good morning. "
    assert result(speech("a talk.mp3")) == ("Good morning.", False)
    (asked,) = model.asked
    assert asked.path == "/v1/audio/transcriptions" and asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.parts["file"] == ("a talk.mp3", "audio/mpeg", content)
    assert asked.parts["model"][2] == b"speech-model" and asked.parts["response_format"][2] == b"json"
    model.says = ""
    assert result(speech("a talk.mp3")) == ("(nothing is said in it)", False)
    Path("empty.wav").touch()
    assert refused(speech("empty.wav")) == "'empty.wav' is empty"


def test_a_question_is_asked_with_what_is_known(model: Model) -> None:
    model.says = "<think>Perhaps 7.</think>\n\n42 {sure}"
    assert result(reasoning("What is {it}?", "It is even.")) == ("42 {sure}", False)
    (asked,) = model.asked
    assert asked.path == "/v1/chat/completions" and asked.json["model"] == "reasoning-model"
    said = asked.json["messages"][0]["content"]
    assert "What is {it}?" in said and "It is even." in said


def test_links_and_pipes_are_not_sent(model: Model, tmp_path: Path) -> None:
    Path("photo.png").symlink_to("/etc/passwd")
    assert "links are not followed" in refused(vision("photo.png"))
    assert "links are not followed" in refused(speech("photo.png"))
    assert "outside the working folder" in refused(speech("/etc/passwd"))
    assert not model.asked


def test_what_may_pass_is_tried_again(model: Model) -> None:
    model.first = [Reply(b"busy", status=429), Reply(b"", status=503)]
    assert result(reasoning("?")) == ("a cat", False) and len(model.asked) == 3


@pytest.mark.parametrize(
    ("reply", "tries", "words"),
    [
        (Reply(b"upstream\nis gone", status=502), 3, "status 502: upstream is gone (3 tries)"),
        (Reply(f"no such key: {KEY}".encode(), status=401), 1, "status 401: no such key: [key]"),
        (Reply(b"x" * 190 + KEY.encode(), status=400), 1, "status 400"),
        (Reply(b"<html>", "text/html"), 1, "its reply is not JSON: <html>"),
        (Reply(b"", status=307, location="http://127.0.0.1:9/"), 1, "status 307"),
        (Reply(b"{}", "application/json"), 1, "its reply has no message"),
        (Reply(b"[]", "application/json"), 1, "its reply has no message"),
        (Reply(b'{"choices": [{"message": {"content": null}}]}'), 1, "its message is empty"),
        (Reply(b'{"choices": [{"message": {"content": ["a"]}}]}'), 1, "its reply has no message"),
    ],
)
def test_every_failure_is_a_line(reply: Reply, tries: int, words: str, model: Model) -> None:
    model.first = [reply] * 3
    told = refused(reasoning("?"))
    assert told.startswith(f"{UNANSWERED}: {words}") and len(told) < 300 and "sk-" not in told
    assert len(model.asked) == tries


def test_a_transcription_without_text_is_a_line(model: Model) -> None:
    Path("a.wav").write_bytes(b"RIFF")
    for reply in (b"{}", b"[]", b"null"):
        model.first = [Reply(reply, "application/json")]
        assert refused(speech("a.wav")) == f"{UNANSWERED}: its reply has no text"


def test_a_cut_answer_says_so(model: Model) -> None:
    choice = {"message": {"content": "It is"}, "finish_reason": "length"}
    model.first = [Reply(json.dumps({"choices": [choice]}).encode())]
    assert result(reasoning("?")) == ("It is\n[cut: the endpoint lets it say no more]", False)


def test_an_endpoint_that_is_away_or_silent(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model.before = lambda: time.sleep(3)
    monkeypatch.setenv("AWORLD_REASONING_SECONDS", "0.5")
    told = refused(reasoning("?"))
    assert told == f"{UNANSWERED}: nothing within 0.5 s; environment.tool_seconds.reasoning gives more"
    monkeypatch.setenv("AWORLD_REASONING_URL", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("AWORLD_REASONING_SECONDS")
    assert "(3 tries)" in refused(reasoning("?"))


def test_settings_that_are_missing_or_wrong(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("login1:8000/v1", "file:///etc/passwd", "http://", "http://a:port/"):
        monkeypatch.setenv("AWORLD_REASONING_URL", url)
        assert "AWORLD_REASONING_URL is no address like" in refused(reasoning("?")), url
    monkeypatch.setenv("AWORLD_REASONING_URL", model.url)
    for key in ("two\nlines", "schlüssel"):
        monkeypatch.setenv("AWORLD_REASONING_KEY", key)
        told = refused(reasoning("?"))
        assert "AWORLD_REASONING_KEY is no key" in told and key not in told
    for name, call in (("VISION", vision("x")), ("SPEECH", speech("x")), ("REASONING", reasoning("x"))):
        monkeypatch.delenv(f"AWORLD_{name}_URL")
        monkeypatch.delenv(f"AWORLD_{name}_MODEL")
        expected = f"none is set up here; set AWORLD_{name}_URL and AWORLD_{name}_MODEL"
        assert refused(call) == f"{UNANSWERED}: {expected}"
    assert not model.asked


def test_an_endpoint_without_a_key_gets_none(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWORLD_REASONING_KEY")
    result(reasoning("?"))
    assert "Authorization" not in model.asked[0].headers


def test_a_key_that_the_endpoint_repeats_is_not_shown(model: Model) -> None:
    model.says = f"You wrote {KEY}."
    assert result(reasoning("?")) == ("You wrote [key].", False)
