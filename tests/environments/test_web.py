"""The web tools against a real server on this machine, through the pool, with and without the cache."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import docx
import pytest
from local_web import Reply, serving

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import SubprocessSandbox
from aworld.errors import InputError

pytestmark = pytest.mark.tools
ARTICLE = """<html><head><title>Ada</title><script>var hidden = 1</script></head><body><nav><a href="/">Home</a></nav>
<article><h1>Ada Lovelace</h1><p>Ada wrote the first program, <a href="/notes">as her notes show</a>, in 1843. She
worked with Charles Babbage on his Analytical Engine, a machine that was never built in their lifetime.</p>
<table><tr><th>born</th><td>1815</td></tr></table></article></body></html>"""


class Site:
    """Some pages, and how often each was asked for."""

    def __init__(self, folder: Path):
        document = docx.Document()
        document.add_paragraph("The seventh note has the program.")
        document.save(str(folder / "note.docx"))
        self.url = ""
        self.asked: Counter[str] = Counter()
        self.pages: dict[str, tuple[int, str, bytes]] = {
            "/ada": (200, "text/html; charset=utf-8", ARTICLE.encode()),
            "/latin": (200, "text/plain; charset=iso-8859-1", "Çelik".encode("latin-1")),
            "/note": (
                200,
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                (folder / "note.docx").read_bytes(),
            ),
            "/long": (200, "text/plain", b"x" * 8_000 + b"y" * 100),
            "/data.bin": (200, "application/octet-stream", bytes(range(256)) * 4),
            "/huge": (200, "text/plain", b"z" * 3_000_000),
            "/broken": (200, "application/pdf", b"%PDF-1.4 and then nothing"),
        }

    def answer(self, path: str) -> Reply:
        self.asked[path] += 1
        if path in ("/moved", "/loop"):
            return Reply(b"", status=302, location="/ada" if path == "/moved" else "/loop")
        if path == "/down" or (path == "/flaky" and self.asked[path] < 3):
            return Reply(b"", status=503)
        if path == "/flaky":
            return Reply(b"at last")
        if path == "/count":
            time.sleep(0.5)
            return Reply(f"answer {self.asked[path]}".encode())
        if path == "/slow":
            time.sleep(8)
        status, kind, body = self.pages.get(path, (404, "text/plain", b""))
        return Reply(body, kind, status)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(tmp_path)
    monkeypatch.setenv("AWORLD_WEB_PRIVATE", "1")
    monkeypatch.setenv("AWORLD_WEB_MB", "2")
    with serving(lambda url, headers: site.answer(url)) as address:
        site.url = address
        yield site


def play(
    root: Path, *calls: tuple[str, dict], cache: str = "", mode: str = "record", seconds: float = 30.0, **values: object
) -> list[Observation]:
    """One episode's calls, with `python` in its sandbox."""
    config = schema.Environment(servers=["python"], web=["fetch"], slots=1, web_cache=cache, web_mode=mode, **values)  # type: ignore[arg-type]
    config.call_seconds = seconds
    root.mkdir(exist_ok=True)

    async def story() -> list[Observation]:
        async with EnvironmentPool(config, SubprocessSandbox(), None, root) as pool, pool.episode() as environment:
            return [await environment.call(name, arguments) for name, arguments in calls]

    return asyncio.run(story())


def fetch(site: Site, path: str, **more: object) -> tuple[str, dict]:
    return "fetch", {"url": site.url + path, **more}


def download(site: Site, path: str, **more: object) -> tuple[str, dict]:
    return "download", {"url": site.url + path, **more}


def test_pages_and_documents_are_read(site: Site, tmp_path: Path) -> None:
    paths = ["/ada", "/moved", "/latin", "/note", "/flaky", "/long"]
    seen = play(
        tmp_path / "root", *(fetch(site, path) for path in paths), fetch(site, "/long", part=2), result_chars=9000
    )
    assert not any(one.is_error for one in seen), seen
    for article in seen[:2]:
        assert "Ada wrote the first program" in article.text and "1815" in article.text
        assert "/notes" in article.text  # where a link leads
        assert "hidden" not in article.text and "Home" not in article.text
    assert [one.text for one in seen[2:5]] == ["Çelik", "The seventh note has the program.", "at last"]
    assert seen[5].text == "[part 1 of 2; go on with part=2]\n" + "x" * 8000
    assert seen[6].text == "y" * 100


def test_what_cannot_be_had_says_why_in_a_line(site: Site, tmp_path: Path) -> None:
    told = {
        "/nothing": "status 404",
        "/loop": "redirected more than 8 times",
        "/huge": "larger than 2 MB",
        "/down": "the web did not answer: ",
        "/broken": "cannot be read as application/pdf",
    }
    seen = play(tmp_path / "root", *(fetch(site, path) for path in told))
    for one, words in zip(seen, told.values(), strict=True):
        assert one.is_error and words in one.text and "\n" not in one.text
    assert site.asked["/down"] == 3 and site.asked["/nothing"] == 1


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/", "http://localhost/", "http://169.254.169.254/meta", "http://[::1]/", "file:///etc/passwd"],
)
def test_nothing_but_the_public_web_is_asked(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWORLD_WEB_PRIVATE", raising=False)
    (seen,) = play(tmp_path / "root", ("fetch", {"url": url}))
    assert seen.is_error
    assert "is not on the public web" in seen.text or "is not an http or https address" in seen.text


def test_what_is_no_address_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWORLD_WEB_PRIVATE", raising=False)
    told = {"http://[::": "is no address", f"http://{'a' * 64}.org/": "cannot be a host's name"}
    seen = play(tmp_path / "root", *(("fetch", {"url": url}) for url in told))
    for one, words in zip(seen, told.values(), strict=True):
        assert one.is_error and words in one.text and "\n" not in one.text


def test_a_download_is_a_file_that_the_sandbox_sees(site: Site, tmp_path: Path) -> None:
    read = ("python", {"code": "import hashlib\nhashlib.sha256(open('data.bin','rb').read()).hexdigest()"})
    names = ("python", {"code": "import os\nsorted(os.listdir())"})
    outside = download(site, "/data.bin", name="../../out.bin")
    calls = [download(site, "/data.bin"), read, download(site, "/data.bin"), outside, names]
    seen = play(tmp_path / "root", *calls)
    assert seen[0].text == "1024 bytes (application/octet-stream) in data.bin"
    assert seen[1].text == repr(hashlib.sha256(bytes(range(256)) * 4).hexdigest())
    assert seen[4].text == "['data-1.bin', 'data.bin', 'out.bin']"


def test_what_was_answered_once_is_never_asked_again(site: Site, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    calls = [fetch(site, "/ada"), fetch(site, "/nothing"), download(site, "/data.bin")]
    read = ("python", {"code": "print(open('data.bin','rb').read()[:4])"})
    first = play(tmp_path / "a", *calls, read, cache=cache)
    asked = dict(site.asked)
    for mode in ("record", "replay", "strict"):
        again = play(tmp_path / mode, *calls, read, cache=cache, mode=mode)
        assert [(one.text, one.is_error) for one in again] == [(one.text, one.is_error) for one in first]
    assert dict(site.asked) == asked
    assert again[3].text == str(bytes(range(4)))


@pytest.mark.deep
def test_the_modes_differ_in_what_was_never_asked(site: Site, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    play(tmp_path / "a", fetch(site, "/ada"), cache=cache)
    (strict,) = play(tmp_path / "b", fetch(site, "/latin"), cache=cache, mode="strict")
    assert strict.is_error and "this call was not recorded" in strict.text and not site.asked["/latin"]
    for count in (1, 2):
        (replay,) = play(tmp_path / "c", fetch(site, "/latin"), cache=cache, mode="replay")
        assert replay.text == "Çelik" and site.asked["/latin"] == count


@pytest.mark.deep
def test_of_several_that_ask_at_once_one_asks(site: Site, tmp_path: Path) -> None:
    """Eight episodes of two workers: all read what was kept, and what is asked is asked once per worker at most."""
    config = schema.Environment(servers=["python"], web=["fetch"], slots=4, web_cache=str(tmp_path / "cache"))
    config.call_seconds = 60.0
    url = {"url": site.url + "/count"}

    async def story() -> list[str]:
        pools = [EnvironmentPool(config, SubprocessSandbox(), None, tmp_path) for _ in range(2)]
        async with pools[0], pools[1]:

            async def episode(pool: EnvironmentPool) -> str:
                async with pool.episode() as environment:
                    return (await environment.call("fetch", url)).text

            return await asyncio.gather(*(episode(pool) for pool in pools * 4))

    seen = asyncio.run(story())
    assert site.asked["/count"] <= 2
    (kept,) = {one.text for one in play(tmp_path / "c", ("fetch", url), cache=config.web_cache, mode="strict")}
    assert set(seen) <= {"answer 1", "answer 2"} and kept in seen


@pytest.mark.deep
def test_a_replayed_file_overwrites_none(site: Site, tmp_path: Path) -> None:
    """Another file of that name, or a folder, is where the cache would put it."""
    cache = str(tmp_path / "cache")
    play(tmp_path / "a", download(site, "/data.bin"), cache=cache)
    mine = ("python", {"code": "open('data.bin', 'w').write('mine')\nimport os\nos.mkdir('data-1.bin')"})
    look = ("python", {"code": "print(open('data.bin').read(), open('data-2.bin', 'rb').read()[:4])"})
    seen = play(tmp_path / "b", mine, download(site, "/data.bin"), look, cache=cache, mode="strict")
    assert seen[1].text == "1024 bytes (application/octet-stream) in data-2.bin"
    assert seen[2].text == f"mine {bytes(range(4))}"


@pytest.mark.deep
def test_a_slow_page_costs_neither_the_server_nor_the_cache(site: Site, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    seen, after = play(tmp_path / "a", fetch(site, "/slow"), fetch(site, "/ada"), cache=cache, seconds=4.0)
    assert "Ada wrote" in after.text
    assert seen.is_error and seen.text.startswith("the web did not answer") and seen.seconds < 4.0
    (seen,) = play(tmp_path / "b", fetch(site, "/slow"), cache=cache, mode="strict", seconds=4.0)
    assert "not recorded" in seen.text


@pytest.mark.deep
def test_a_failure_of_the_web_is_not_kept(site: Site, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    play(tmp_path / "a", fetch(site, "/down"), cache=cache)
    asked = site.asked["/down"]
    play(tmp_path / "b", fetch(site, "/down"), cache=cache)
    assert site.asked["/down"] == 2 * asked


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="web_mode=once: no such mode; valid: record, replay, strict"):
        play(tmp_path / "root", cache=str(tmp_path), mode="once")
    with pytest.raises(InputError, match="nothing is recorded in"):
        play(tmp_path / "root", cache=str(tmp_path / "none"), mode="strict")


def test_the_proxy_of_the_site_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It resolves the name, which is none that this machine knows."""
    monkeypatch.delenv("AWORLD_WEB_PRIVATE", raising=False)
    asked = []

    def proxy(url: str, headers: Mapping[str, str]) -> Reply:
        asked.append(url)
        return Reply(b"told by the proxy")

    with serving(proxy) as address:
        monkeypatch.setenv("http_proxy", address)
        (seen,) = play(tmp_path / "root", ("fetch", {"url": "http://ada.example/notes"}))
    assert seen.text == "told by the proxy" and asked == ["http://ada.example/notes"]


def test_what_the_proxy_is_not_asked_for_is_still_to_be_on_the_web(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWORLD_WEB_PRIVATE", raising=False)
    with serving(lambda url, headers: Reply(b"secret")) as near:
        monkeypatch.setenv("http_proxy", near)
        monkeypatch.setenv("no_proxy", "localhost,.site.example")
        port = near.rpartition(":")[2]
        (seen,) = play(tmp_path / "root", ("fetch", {"url": f"http://localhost:{port}/"}))
    assert seen.is_error and "is not on the public web" in seen.text


def test_half_a_character_is_an_error_of_that_call(tmp_path: Path) -> None:
    """A policy may write one; the cache asks nobody about it either."""
    cache = str(tmp_path / "cache")
    seen = play(
        tmp_path / "root", ("fetch", {"url": "http://a.example/\ud83d"}), ("python", {"code": "1"}), cache=cache
    )
    assert seen[0].is_error and "not valid Unicode" in seen[0].text and seen[1].text == "1"
