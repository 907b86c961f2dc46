"""A real Chromium on pages of a server on this machine."""

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from local_web import Reply, serving

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import SubprocessSandbox
from aworld.tools.browser import PROGRAMS
from aworld.tools.common.result import UNREACHABLE

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(not any(map(shutil.which, PROGRAMS)), reason="no Chromium on PATH: apt install chromium"),
]
HOME = """<html><head><title>Home</title><script>
onload = () => { document.getElementById("late").textContent = "written by " + "a script"; alert("hello") }
</script></head><body><h1>Welcome</h1><p id="late"></p><p style="display:none">unseen</p>
<a href="/next">The next page</a> <a href="/window" target="_blank">A window</a>
<form action="/found"><label>Name <input name="name"></label>
<select name="size" aria-label="Size"><option>small</option><option>large</option></select>
<input type="checkbox" name="sure" checked aria-label="Sure"><button>Send</button></form>
<div role="button" onclick="document.title = 'pressed'" aria-label="Press"></div>
<img src="http://10.0.0.1/x.png" alt="a cat">
</body></html>"""
ENDLESS = """<title>Endless</title><body style="margin:0"><div id="all"></div><script>
let n = 0; const more = () => { for (let i = 0; i < 50; i++) all.innerHTML += `<p>line ${n++}</p>` };
more(); onscroll = () => { if (n < 100) more() }</script></body>"""
BUSY: set[str] = set()  # what answers 503


def answer(url: str, headers: Mapping[str, str]) -> Reply:
    path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
    if path == "/slow":
        time.sleep(20)
    if path in ("/loop", "/empty"):
        return Reply(b"", status=302, location="/loop") if path == "/loop" else Reply(b"", status=204)
    if path == "/gone":
        return Reply(b"", "text/html", 410)
    if path == "/mute":
        return Reply(b"", "text/html", 503)
    if path in BUSY:
        return Reply(b"<p>come back later</p>", "text/html", 503)
    pages = {
        "/busy": "<p>at last</p>",
        "/links": "".join(f"<a href='{link}'>link</a>" for link in query.get("to", [])),
        "/": HOME,
        "/next": "<title>Next</title><p>Second page.</p>",
        "/window": "<title>Window</title><p>Its own window.</p>",
        "/found": f"<title>Found</title><p>{query}</p>",
        "/endless": ENDLESS,
    }
    return Reply(pages[path].encode(), "text/html") if path in pages else Reply(b"<p>nothing</p>", "text/html", 404)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWORLD_WEB_PRIVATE", "1")
    with serving(answer) as address:
        yield address


def play(*calls: tuple, seconds: float = 60.0, **values: object) -> list[Observation]:
    """What each call shows; where it says what is to come, as soon as that is there: a click may lead there late."""
    config = schema.Environment(servers=["python"], web=["browser"], slots=1, result_chars=20_000, **values)  # type: ignore[arg-type]
    config.call_seconds = seconds

    async def story(root: Path) -> list[Observation]:
        async with EnvironmentPool(config, SubprocessSandbox(), None, root) as pool, pool.episode() as environment:
            seen = []
            for name, arguments, *awaited in calls:
                seen.append(await environment.call(name, arguments))
                give_up = time.monotonic() + 30
                while any(text not in seen[-1].text for text in awaited) and time.monotonic() < give_up:
                    seen[-1] = await environment.call("browse_view", {})
            return seen

    with tempfile.TemporaryDirectory(prefix="b-") as root:  # a path short enough for a browser's sockets
        seen = asyncio.run(story(Path(root)))
        assert not list(Path(root).iterdir())
    return seen


def test_pages_are_text_with_numbers_to_act_on(home: str) -> None:
    seen = play(
        ("browse", {"url": home}, "written by a script"),
        ("browse_type", {"number": 3, "text": "Ada"}),
        ("browse_type", {"number": 4, "text": "large"}),
        ("browse_click", {"number": 5}),
        ("browse_click", {"number": 6}, "Found"),
        ("browse_back", {}, "Welcome"),
        ("browse_click", {"number": 1}, "Second page."),
        ("browse_back", {}, "Welcome"),
        ("browse_click", {"number": 2}, "Its own window."),
        ("browse_click", {"number": 99}),
    )
    assert not any(one.is_error for one in seen[:-1]), seen
    assert seen[0].text.splitlines() == [
        "Home",
        f"{home}/",
        "Welcome",
        "written by a script",
        '[1] link "The next page" [2] link "A window"',
        'Name [3] field "Name" [4] choice "Size" = "small" of small | large [5] checkbox "Sure" (on) [6] button "Send"',
        '[7] button "Press"',
        "(picture: a cat)",
    ]
    assert '[3] field "Name" = "Ada"' in seen[1].text and '"Size" = "large"' in seen[2].text
    assert "(off)" in seen[3].text
    assert "{'name': ['Ada'], 'size': ['large']}" in seen[4].text
    assert seen[5].text.startswith("Home") and seen[6].text.endswith("Second page.")
    assert seen[8].text == f"Window\n{home}/window\nIts own window."
    assert seen[9].is_error and "\n" not in seen[9].text


@pytest.mark.deep
def test_an_endless_page_a_picture_and_what_is_not_on_the_web(home: str) -> None:
    size = ("python", {"code": "from PIL import Image\nImage.open('shot.png').size"})
    seen = play(
        ("browse", {"url": f"{home}/endless"}),
        ("browse_scroll", {}, "line 99"),
        ("browse_screenshot", {"name": "../shot.png"}),
        size,
        ("browse", {"url": "file:///etc/passwd"}),
        ("browse", {"url": f"{home}/missing"}),
    )
    assert seen[0].text.endswith("line 49") and seen[1].text.endswith("line 99")
    assert seen[3].text == "(1280, 800)", seen[2]
    assert seen[4].is_error and "is not an http or https address" in seen[4].text
    assert seen[5].text.endswith("nothing")


@pytest.mark.deep
def test_a_session_is_replayed_and_goes_on(home: str, tmp_path: Path) -> None:
    """What was recorded needs no browser; a step that was not is taken after the steps before it."""
    cache = str(tmp_path / "cache")
    steps: list[tuple[str, dict]] = [("browse", {"url": home}), ("browse_click", {"number": 1})]
    first = play(*steps, web_cache=cache)
    strict = play(*steps, ("browse_back", {}), web_cache=cache, web_mode="strict")
    assert [one.text for one in strict[:2]] == [one.text for one in first]
    assert strict[2].is_error and "not recorded" in strict[2].text
    on = play(*steps, ("browse_back", {}), web_cache=cache)
    assert on[1].seconds == 0.0 and on[2].text.startswith("Home")


@pytest.mark.deep
def test_what_the_web_did_not_answer_is_asked_again(home: str, tmp_path: Path) -> None:
    """However one comes there: by its address, or by a click."""
    cache, down = str(tmp_path / "cache"), socket.create_server(("127.0.0.1", 0))
    gone = f"http://127.0.0.1:{down.getsockname()[1]}/"
    down.close()
    links = f"{home}/links?{urlencode({'to': [gone, f'{home}/busy?when=clicked']}, doseq=True)}"
    BUSY.add("/busy")
    for steps, reason in (
        ([("browse", {"url": gone})], "net::ERR_CONNECTION_REFUSED"),
        ([("browse", {"url": links}), ("browse_click", {"number": 1})], "ERR_CONNECTION_REFUSED"),
        ([("browse", {"url": f"{home}/busy"})], "status 503"),
        ([("browse", {"url": f"{home}/mute"})], "ERR_HTTP_RESPONSE_CODE_FAILURE"),
        ([("browse", {"url": links}), ("browse_click", {"number": 2})], "status 503"),
    ):
        seen = play(*steps, web_cache=cache)
        for one in seen[steps[0][1]["url"] == links :]:
            assert one.is_error and one.text.startswith(UNREACHABLE) and reason in one.text, seen
    kept = "".join(file.read_text() for file in (tmp_path / "cache").glob("*.jsonl"))
    assert kept.count('"tool"') == kept.count('"browse"') == 1 and links in kept
    BUSY.clear()
    (seen,) = play(("browse", {"url": f"{home}/busy"}), web_cache=cache)
    assert seen.text.endswith("at last")


@pytest.mark.deep
def test_where_the_web_did_not_answer_one_is_still_there(home: str) -> None:
    BUSY.add("/busy")
    seen = play(("browse", {"url": f"{home}/busy"}), ("browse_view", {}), ("browse_screenshot", {}))
    assert all(one.text.startswith(UNREACHABLE) and "status 503" in one.text for one in seen), seen
    BUSY.clear()


@pytest.mark.deep
def test_what_is_kept_is_what_its_history_leads_to(home: str, tmp_path: Path) -> None:
    """A step that the web did not answer, and that is not kept, takes nobody anywhere."""
    cache = str(tmp_path / "cache")
    BUSY.add("/busy")
    first = play(
        *(("browse", {"url": home + path}) for path in ("/next", "/busy")), ("browse_view", {}), web_cache=cache
    )
    BUSY.clear()
    second = play(("browse", {"url": f"{home}/next"}), ("browse_view", {}), web_cache=cache)
    assert first[1].is_error and first[2].text.startswith("Next")
    assert second[1].seconds == 0.0 and second[1].text == first[2].text


def test_what_another_try_meets_again_is_an_answer(home: str) -> None:
    seen = play(*(("browse", {"url": home + path}) for path in ("/loop", "/empty", "/gone")))
    assert all(one.is_error and not one.text.startswith(UNREACHABLE) for one in seen), seen
    assert (
        "ERR_TOO_MANY_REDIRECTS" in seen[0].text
        and "ERR_ABORTED" in seen[1].text
        and "ERR_HTTP_RESPONSE_CODE_FAILURE" in seen[2].text
    )


LATER_FOUND = """
import asyncio, os
from aworld.tools.browser import browse

async def story():
    print((await browse("http://home.example/")).text.splitlines()[-1])
    os.environ["no_proxy"] = "ada.example"  # no proxy finds it now, and nobody else knows it
    print((await browse("http://home.example/with-ada")).text.splitlines()[-1])
    del os.environ["no_proxy"]
    print((await browse("http://home.example/with-ada")).text.splitlines()[-1], flush=True)
    os._exit(0)

asyncio.run(story())
"""


def test_a_name_that_is_not_found_for_a_moment_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def proxy(url: str, headers: Mapping[str, str]) -> Reply:
        if url == "http://ada.example/late.js":
            return Reply(b"document.body.append('written by ada')", "text/javascript")
        script = '<script src="http://ada.example/late.js"></script>' if url.endswith("/with-ada") else ""
        return Reply(f"<body><p>home</p>{script}</body>".encode(), "text/html")

    for name in ("AWORLD_WEB_PRIVATE", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(proxy) as address:
        monkeypatch.setenv("http_proxy", address)
        done = subprocess.run([sys.executable, "-c", LATER_FOUND], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["home", "home", "written by ada"], done


def test_private_addresses_are_not_browsed(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWORLD_WEB_PRIVATE")
    (seen,) = play(("browse", {"url": home}))
    assert seen.is_error and "is not on the public web" in seen.text


@pytest.mark.deep
def test_a_slow_page_costs_one_call(home: str) -> None:
    urls = [home, f"{home}/slow", f"{home}/next"]
    seen = play(*(("browse", {"url": url}) for url in urls), seconds=20.0)
    assert seen[1].is_error and seen[1].text.startswith("the web did not answer")
    assert not seen[0].is_error and seen[2].text.endswith("Second page."), seen


@pytest.mark.deep
def test_the_proxy_of_the_site_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def proxy(url: str, headers: Mapping[str, str]) -> Reply:
        asked.append(url)
        return Reply(b"<p>told by the proxy</p>", "text/html")

    with serving(proxy) as address:
        monkeypatch.setenv("http_proxy", address)
        (seen,) = play(("browse", {"url": "http://ada.example/notes"}))
    assert seen.text.endswith("told by the proxy") and "http://ada.example/notes" in asked


@pytest.mark.deep
def test_a_redirect_to_what_is_not_on_the_web_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def proxy(url: str, headers: Mapping[str, str]) -> Reply:
        if url.startswith("http://ada.example/"):
            return Reply(b"", status=302, location="http://10.0.0.1/secret")
        return Reply(b"<p>the secret</p>", "text/html")

    monkeypatch.delenv("AWORLD_WEB_PRIVATE", raising=False)
    with serving(proxy) as address:
        monkeypatch.setenv("http_proxy", address)
        seen = play(("browse", {"url": "http://ada.example/"}), ("browse_view", {}), ("browse_screenshot", {}))
    assert all(one.is_error and "10.0.0.1 is not on the public web" in one.text for one in seen), seen
