"""How the web tools reach the web: http and https only, bounded, and nothing of this site's own network.

By httpx (BSD-3), which honours http_proxy, https_proxy and no_proxy. AWORLD_WEB_SECONDS (20) limits all tries
together, AWORLD_WEB_MB (20) an answer; AWORLD_WEB_PRIVATE=1 lets addresses of private networks through.
"""

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import httpx

from aworld.tools.common.result import UNREACHABLE, Result, error
from aworld.tools.readers.texts import guessed

TRIES = 3
REDIRECTS = 8
AGENT = "Mozilla/5.0 (compatible; aworld-slurm)"
AGAIN = (429, 500, 502, 503, 504)


class WebError(Exception):
    """Why there is no answer; `passing` where asking again may help."""

    def __init__(self, reason: str, passing: bool = False):
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True)
class Page:
    """`url` is where it came from in the end; `kind` its media type, such as text/html."""

    url: str
    kind: str
    body: bytes
    charset: str

    @property
    def text(self) -> str:
        try:
            return self.body.decode(self.charset)
        except (UnicodeDecodeError, LookupError):  # it names none, a wrong one, or one of its own
            return guessed(self.body) or self.body.decode("utf-8", "replace")


async def get(
    url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, own: bool = False
) -> Page:
    """Fetch a page, with redirects; what fails for a moment is tried three times.

    Args:
        own: the address is a setting, not the agent's, and so may be one of this site.

    Raises:
        WebError: with one line that says why.
    """
    limit = seconds()
    reason = f"no answer within {limit:g} s"
    with suppress(TimeoutError):
        tls = httpx.create_ssl_context()
        async with (
            asyncio.timeout(limit),
            httpx.AsyncClient(verify=tls, timeout=limit / 2) as usual,
            httpx.AsyncClient(verify=tls, timeout=limit / 2, trust_env=False) as direct,
        ):
            for attempt in range(TRIES):
                await asyncio.sleep(attempt**2 * 0.5)
                try:
                    return await _follow(usual, direct, httpx.URL(url, params=params or None), headers or {}, own)
                except httpx.TransportError as failure:
                    reason = str(failure) or type(failure).__name__
                except WebError as failure:
                    if not failure.passing:
                        raise
                    reason = str(failure)
                except (httpx.InvalidURL, ValueError) as failure:
                    raise WebError(f"{url[:200]!r} is no address: {failure}") from None
    raise WebError(f"{url[:200]}: {reason}", passing=True)


def seconds() -> float:
    """Time limit of one call to a web tool."""
    return float(os.environ.get("AWORLD_WEB_SECONDS", "20"))


def proxy() -> str:
    """The proxy of this site; empty where it has none."""
    names = ("https_proxy", "http_proxy", "all_proxy")
    return next((os.environ[n] for name in names for n in (name, name.upper()) if os.environ.get(n)), "")


def _by_proxy(url: httpx.URL) -> bool:
    proxies = getproxies_environment()
    return bool(proxies.get(url.scheme) or proxies.get("all")) and not proxy_bypass_environment(url.host)


async def _follow(
    usual: httpx.AsyncClient, direct: httpx.AsyncClient, url: httpx.URL, headers: Mapping[str, str], own: bool
) -> Page:
    headers = {"User-Agent": AGENT, **headers}
    for _ in range(REDIRECTS):
        addresses = [] if own else await check(url)
        asked = _first(direct, url, addresses, headers) if addresses else usual.stream("GET", url, headers=headers)
        async with asked as answer:
            if answer.has_redirect_location:
                url = url.join(answer.headers["location"])
                continue
            if answer.status_code in AGAIN:
                raise WebError(f"status {answer.status_code}", passing=True)
            if answer.is_error:
                raise WebError(f"{url}: status {answer.status_code} {answer.reason_phrase}".strip())
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            return Page(str(url), kind, await _body(answer, url), answer.charset_encoding or "utf-8")
    raise WebError(f"{url}: redirected more than {REDIRECTS} times")


@asynccontextmanager
async def _first(
    client: httpx.AsyncClient, url: httpx.URL, addresses: list[str], headers: Mapping[str, str]
) -> AsyncIterator[httpx.Response]:
    """The answer of the first of the host's addresses that can be connected to. The name is not looked up again: the
    next answer may be another, an address of this site's network."""
    name = {"Host": url.netloc.decode("ascii")}
    for number, address in enumerate(addresses, 1):
        there = url.copy_with(host=address)
        known_as = {"sni_hostname": url.raw_host.decode("ascii")}  # its certificate is for the name
        request = client.build_request("GET", there, headers={**headers, **name}, extensions=known_as)
        try:
            answer = await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses):
                raise
            continue
        try:
            yield answer
        finally:
            await answer.aclose()
        return


async def _body(answer: httpx.Response, url: httpx.URL) -> bytes:
    limit = int(float(os.environ.get("AWORLD_WEB_MB", "20")) * 1e6)
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > limit:
            raise WebError(f"{url} is larger than {limit / 1e6:g} MB")
    return bytes(body)


async def check(url: httpx.URL | str) -> list[str]:
    """Check that a URL is http or https, and on the web, not on this site's network.

    Returns the addresses of its host: connect to one of them. None where the URL holds an address itself, where a proxy
    looks names up, and where this site's network is allowed.

    Raises:
        WebError: it is not on the web.
    """
    try:
        url = httpx.URL(url)
    except httpx.InvalidURL as reason:
        raise WebError(f"{str(url)[:200]!r} is no address: {reason}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise WebError(f"{str(url)[:200]!r} is not an http or https address")
    if is_private_allowed():
        return []
    try:
        literal = ipaddress.ip_address(url.host)
    except ValueError:
        if _by_proxy(url):
            return []
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
        except OSError as failure:
            raise WebError(f"{url.host} is not found: {failure.strerror or failure}", passing=True) from None
        except UnicodeError:  # a part of it is empty or too long
            raise WebError(f"{url.host[:200]} cannot be a host's name") from None
        found = [ipaddress.ip_address(answer[4][0]) for answer in answers]
        addresses = list(dict.fromkeys(map(str, found)))
    else:
        found, addresses = [literal], []
    if not all(map(is_public, found)):
        raise WebError(f"{url.host} is not on the public web")
    return addresses


def is_private_allowed() -> bool:
    """Whether the user lets the tools reach this site's own network."""
    return os.environ.get("AWORLD_WEB_PRIVATE") == "1"


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global


def failed(reason: WebError) -> Result:
    """The error result of a failure."""
    return error(f"{UNREACHABLE}: {reason}" if reason.passing else str(reason))
