"""A name that is looked up twice with two answers leads no web tool into this site's own network."""

import asyncio
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_web import Reply, serving

from aworld.tools import browser
from aworld.tools.common import internet, relay
from aworld.tools.common.internet import WebError

pytestmark = pytest.mark.tools
NAME = "rebinding.example"
NOWHERE = "4000::1"  # public, and given to nobody
LOCAL = "127.0.0.1"


class Names:
    """What the name server says of NAME, one answer after the other, the last one for ever."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.answers: list[str] = []
        real = socket.getaddrinfo

        def look_up(host: Any, port: Any, *more: Any, **named: Any) -> Any:
            if host not in (NAME, NAME.encode()):
                return real(host, port, *more, **named)
            return real(
                self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], port, type=socket.SOCK_STREAM
            )

        patch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    for name in ("AWORLD_WEB_PRIVATE", "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return Names(monkeypatch)


@pytest.fixture
def as_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own address counts as one of the web: there is no other here."""
    monkeypatch.setattr(internet, "is_public", lambda address: address == ipaddress.ip_address(LOCAL))


@pytest.fixture
def site() -> Iterator[tuple[int, list[str]]]:
    """A server's port, and the hosts that it was asked as."""
    asked: list[str] = []

    def answer(path: str, headers: Mapping[str, str]) -> Reply:
        asked.append(headers["Host"])
        if path == "/moved":
            return Reply(b"", status=302, location="/page?x=1")
        return Reply(f"<title>Here</title><p>you asked for {path}".encode(), "text/html")

    with serving(answer) as address:
        yield int(address.rpartition(":")[2]), asked


def test_a_page_comes_from_the_address_that_was_checked(names: Names, site: tuple[int, list[str]]) -> None:
    port, asked = site
    names.answers = [NOWHERE, LOCAL]
    with pytest.raises(WebError):
        asyncio.run(internet.get(f"http://{NAME}:{port}/"))
    assert asked == []


def test_it_is_asked_by_its_name(names: Names, site: tuple[int, list[str]], as_public: None) -> None:
    port, asked = site
    names.answers = [LOCAL]
    page = asyncio.run(internet.get(f"http://{NAME}:{port}/moved"))
    assert (page.url, asked) == (f"http://{NAME}:{port}/page?x=1", [f"{NAME}:{port}"] * 2)
    assert "you asked for /page?x=1" in page.text


def test_its_certificate_is_for_the_name(
    names: Names, as_public: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    files = ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", tmp_path / "key", "-out", tmp_path / "certificate"]
    subprocess.run([*made, *files], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"safe")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer((LOCAL, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names.answers = [LOCAL]
    try:
        assert asyncio.run(internet.get(f"https://{NAME}:{server.server_port}/")).text == "safe"
    finally:
        server.shutdown()
        server.server_close()


def through_the_relay(url: str) -> httpx.Response:
    async def story() -> httpx.Response:
        proxy = await relay.start()
        async with httpx.AsyncClient(proxy=proxy, trust_env=False) as client:
            return await client.get(url)

    return asyncio.run(story())


def test_the_relay_connects_to_the_address_that_it_checked(names: Names, site: tuple[int, list[str]]) -> None:
    port, asked = site
    names.answers = [NOWHERE, LOCAL]
    assert through_the_relay(f"http://{NAME}:{port}/").status_code == 502
    assert through_the_relay(f"http://{LOCAL}:{port}/").status_code == 403
    with pytest.raises(httpx.ProxyError, match="403"):
        through_the_relay(f"https://{LOCAL}:{port}/")  # a tunnel
    assert asked == []


def test_the_browser_looks_up_no_name_itself(
    names: Names, site: tuple[int, list[str]], as_public: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(map(shutil.which, browser.PROGRAMS)):
        pytest.skip("no Chromium on PATH")
    port, asked = site
    names.answers = [LOCAL]
    monkeypatch.setattr(browser, "_browser", browser.Browser())

    async def story() -> str:
        seen = await browser.browse(f"http://{NAME}:{port}/page")
        page = await browser._browser.page()
        await page.context.browser.close()
        return seen.text

    assert "you asked for /page" in asyncio.run(story())
    assert asked[0] == f"{NAME}:{port}"
