"""Transcripts of videos: what can be tested without YouTube, by the library's own objects, and YouTube where it is."""

import asyncio
from typing import Any

import httpx
import pytest
import requests
import youtube_transcript_api as library
from hypothesis import given
from hypothesis import strategies as st
from youtube_transcript_api import FetchedTranscript, FetchedTranscriptSnippet, TranscriptList

from aworld.tools.common import internet
from aworld.tools.common.result import UNREACHABLE
from aworld.tools.youtube import chosen, identity, refused, written, youtube

pytestmark = pytest.mark.unit
VIDEO = "dQw4w9WgXcQ"
IDENTITIES = st.text("abcXYZ019_-", min_size=11, max_size=11)
FORMS = [
    "{}",
    "https://www.youtube.com/watch?v={}",
    "http://youtube.com/watch?list=PL1&v={}&t=42s",
    "youtube.com/watch?v={}",
    "m.youtube.com/watch?v={}#t=1",
    "https://music.youtube.com/watch?v={}",
    "https://youtu.be/{}?si=abc",
    "youtu.be/{}",
    "https://www.youtube.com/shorts/{}",
    "https://www.youtube.com/live/{}?feature=share",
    "https://www.youtube-nocookie.com/embed/{}",
    " https://www.youtube.com/v/{} ",
]


@given(IDENTITIES, st.sampled_from(FORMS))
def test_every_form_of_an_address_names_its_video(video: str, form: str) -> None:
    assert identity(form.format(video)) == video


@given(st.text())
def test_no_address_breaks_it(address: str) -> None:
    found = identity(address)
    assert found is None or found in address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "short",
        "https://example.org/watch?v=dQw4w9WgXcQ",
        "https://youtube.com.example.org/watch?v=dQw4w9WgXcQ",
        "https://www.youtube.com/watch?v=dQw4w9WgXc",
        "https://www.youtube.com/@channel",
        "https://[youtube.com/watch?v=dQw4w9WgXcQ",
    ],
)
def test_other_addresses_name_none(address: str) -> None:
    assert identity(address) is None
    assert "no address of a video" in said(youtube(address))


def said(call: Any) -> str:
    result = asyncio.run(call)
    assert result.is_error
    return result.text


def offered(*tracks: tuple[str, bool]) -> TranscriptList:
    """As the library reads it from YouTube's own description of a video: languages, and whether made by a machine."""
    captions = [
        {
            "baseUrl": f"https://www.youtube.com/api/timedtext?lang={code}",
            "name": {"runs": [{"text": code.upper()}]},
            "languageCode": code,
            **({"kind": "asr"} if machine else {}),
        }
        for code, machine in tracks
    ]
    return TranscriptList.build(requests.Session(), VIDEO, {"captionTracks": captions})


@pytest.mark.parametrize(
    ("tracks", "language", "expected"),
    [
        ([("en", True), ("en", False)], "en", ("en", False)),
        ([("de", False), ("en", True)], "en", ("en", True)),
        ([("de", False), ("en-GB", False)], "en", ("en-GB", False)),
        ([("en", True), ("pt-BR", False)], "pt-PT", ("pt-BR", False)),
        ([("ja", True), ("de", False)], "en", ("de", False)),
        ([("ja", True)], "en", ("ja", True)),
    ],
)
def test_the_nearest_language_is_chosen(tracks: list, language: str, expected: tuple[str, bool]) -> None:
    found = chosen(offered(*tracks), language)
    assert (found.language_code, found.is_generated) == expected


def test_a_video_without_any_says_so() -> None:
    with pytest.raises(library.NoTranscriptFound) as reason:
        chosen(offered(), "en")
    told = refused(reason.value)
    assert not told.passing and "no transcript" in str(told) and "\n" not in str(told)


def test_a_transcript_has_a_time_every_quarter_of_a_minute() -> None:
    words = [("We're  no\nstrangers", 0.0), ("to love", 3.5), ("", 15.0), ("you know", 16.2), ("the rules", 3661.9)]
    snippets = [FetchedTranscriptSnippet(text=text, start=start, duration=2.0) for text, start in words]
    assert written(FetchedTranscript(snippets, VIDEO, "English", "en", True)).splitlines() == [
        "[transcript: English, by a machine]",
        "[0:00:00] We're no strangers to love",
        "[0:00:16] you know",
        "[1:01:01] the rules",
    ]


def test_only_what_holds_for_the_video_is_an_answer() -> None:
    http = requests.HTTPError("status 500")
    for_good = [library.TranscriptsDisabled(VIDEO), library.VideoUnavailable(VIDEO), library.AgeRestricted(VIDEO)]
    passing = [
        library.IpBlocked(VIDEO),
        library.RequestBlocked(VIDEO),
        library.PoTokenRequired(VIDEO),
        library.YouTubeRequestFailed(VIDEO, http),
        library.VideoUnplayable(VIDEO, "Sign in to confirm you're not a bot", []),
        requests.ConnectionError("no route by http://me:secret@proxy"),
        ValueError("no JSON"),
    ]
    for reason in (*for_good, *passing):
        told = internet.failed(refused(reason)).text
        assert told.startswith(UNREACHABLE) == (reason in passing)
        assert "\n" not in told and "secret" not in told and len(told) < 300


def test_without_the_web_or_its_proxy_nothing_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy at which nothing listens is asked, instead of YouTube itself."""
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://me:secret@127.0.0.1:9")
    told = said(youtube(VIDEO))
    assert told.startswith(UNREACHABLE) and "secret" not in told and "\n" not in told


@pytest.fixture(scope="module")
def youtube_itself() -> None:
    try:
        httpx.head("https://www.youtube.com", timeout=5)
    except httpx.HTTPError:
        pytest.skip("no internet here")


def test_youtube_itself(youtube_itself: None) -> None:
    result = asyncio.run(youtube(f"https://youtu.be/{VIDEO}"))
    text = result.text
    if result.is_error and text.startswith(UNREACHABLE):
        pytest.skip(text)
    assert "Rick Astley" in text and "never gonna give you up" in text.lower() and "[0:00:" in text
