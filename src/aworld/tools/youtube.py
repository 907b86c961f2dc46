"""`youtube`: what is said in a video, part by part with times, by youtube-transcript-api (MIT); the title by oEmbed.

The transcript is one that YouTube offers in the language asked for, rather by people than by a machine, else the first
in another. AWORLD_YOUTUBE_SECONDS (60) limits a call; in an episode it follows from
`environment.tool_seconds.youtube`. http_proxy and https_proxy are honoured.
"""

import asyncio
import json
import os
import re
from datetime import timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from aworld.tools.common import internet
from aworld.tools.common.result import Result, error, in_parts
from aworld.tools.common.server import ToolServer

if TYPE_CHECKING:
    from youtube_transcript_api import FetchedTranscript, Transcript, TranscriptList

OEMBED = "https://www.youtube.com/oembed"
IDENTITY = re.compile(r"[A-Za-z0-9_-]{11}")
HOSTS = ("youtube.com", "youtube-nocookie.com")
FOLDERS = ("shorts", "embed", "live", "v", "e")
LINE_SECONDS = 15.0  # of what is said, in a line with one time
ONE_REQUEST_SECONDS = 20.0


async def youtube(url: str, part: int = 1, language: str = "en") -> Result:
    video = identity(url)
    if video is None:
        return error(f"{url[:100]!r} is no address of a video on YouTube")
    try:
        async with asyncio.timeout(float(os.environ.get("AWORLD_YOUTUBE_SECONDS", "60"))):
            title = await _title(video)
            said = await asyncio.to_thread(transcript, video, language)
    except TimeoutError:
        return internet.failed(internet.WebError("YouTube takes too long", passing=True))
    except internet.WebError as reason:
        return internet.failed(reason)
    return in_parts("\n".join(filter(None, [title, said])), part, url)


def identity(address: str) -> str | None:
    """The eleven characters that name a video, from any form of its address; None where there are none."""
    address = address.strip()
    if IDENTITY.fullmatch(address):
        return address
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        host = (parts.hostname or "").removeprefix("www.").removeprefix("m.").removeprefix("music.")
    except ValueError:
        return None
    folders = [*parts.path.strip("/").split("/"), ""]
    found = ""
    if host == "youtu.be":
        found = folders[0]
    elif host in HOSTS:
        found = folders[1] if folders[0] in FOLDERS else parse_qs(parts.query).get("v", [""])[0]
    return found if IDENTITY.fullmatch(found) else None


@lru_cache(maxsize=4)  # a reader asks for one part after the other
def transcript(video: str, language: str) -> str:
    """Its text, with its language and times.

    Raises:
        WebError: there is none, or YouTube does not answer.
    """
    import requests
    import youtube_transcript_api as library
    from requests.adapters import HTTPAdapter, Retry

    again = Retry(2, status_forcelist=internet.AGAIN, allowed_methods=None, backoff_factor=1, raise_on_status=False)
    session = requests.Session()
    session.mount("https://", HTTPAdapter(max_retries=again))
    session.request = partial(session.request, timeout=ONE_REQUEST_SECONDS)  # type: ignore[method-assign]
    try:
        found = library.YouTubeTranscriptApi(http_client=session).list(video)
        return written(chosen(found, language).fetch())
    except Exception as reason:  # also what the library makes of a reply that it does not expect
        raise refused(reason) from None


def refused(reason: Exception) -> internet.WebError:
    """The line for a failure of the library's; only what holds for the video itself is for good."""
    import youtube_transcript_api as yt

    if not isinstance(reason, yt.CouldNotRetrieveTranscript):
        return internet.WebError(f"www.youtube.com: {type(reason).__name__}", passing=True)
    of_video = (yt.TranscriptsDisabled, yt.NoTranscriptFound, yt.VideoUnavailable, yt.AgeRestricted)
    line = next(iter(reason.cause.strip().splitlines()), "").partition(". ")[0][:200]
    return internet.WebError(f"no transcript of {reason.video_id}: {line}", passing=not isinstance(reason, of_video))


def chosen(offered: "TranscriptList", language: str) -> "Transcript":
    """The transcript in this language, or in a variety of it, else the first; NoTranscriptFound where there is none."""

    def distance(one: "Transcript") -> tuple[bool, bool]:
        return one.language_code != language, one.language_code.split("-")[0] != language.split("-")[0]

    return min(offered, key=distance, default=None) or offered.find_transcript([language])


def written(transcript: "FetchedTranscript") -> str:
    """Its language, and a line for some seconds each, with the time at which it begins."""
    by = "by a machine" if transcript.is_generated else "by people"
    lines = [f"[transcript: {transcript.language}, {by}]"]
    begun = -LINE_SECONDS
    for snippet in transcript:
        words = " ".join(snippet.text.split())
        if words and snippet.start - begun >= LINE_SECONDS:
            begun = snippet.start
            lines.append(f"[{timedelta(seconds=int(begun))}]")
        lines[-1] += f" {words}" if words else ""
    return "\n".join(lines)


async def _title(video: str) -> str:
    """Title and channel; "" where the video may not be shown elsewhere.

    Raises:
        WebError: YouTube does not answer.
    """
    asked = {"url": f"https://www.youtube.com/watch?v={video}", "format": "json"}
    try:
        about = json.loads((await internet.get(OEMBED, asked, own=True)).body)
        return f"{about['title']}\nby {about['author_name']}"
    except (internet.WebError, ValueError, LookupError, TypeError) as reason:
        if getattr(reason, "passing", False):
            raise
        return ""


def add_to(server: ToolServer) -> None:
    server.add_tool(youtube, description="Read what is said in a YouTube video, with times.")


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["youtube"])
