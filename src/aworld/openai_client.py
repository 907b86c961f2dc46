"""A client of OpenAI-compatible endpoints, by httpx (BSD-3): one address, one way to try again, one kind per error.

It imports nothing else of aworld: the tool servers use it too, which run where the rest need not be.
"""

import asyncio
import ipaddress
import json
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import httpx

CONNECT_SECONDS = 10.0
PAUSE = 1.0  # seconds before the second try; each later pause is twice the one before, and one more
LATER = (408, 409, 425, 429)  # statuses of 4xx that ask for another try, later
REASON_CHARS = 200  # of a reply, in an error

T = TypeVar("T")


class EndpointError(Exception):
    """An endpoint gave no reply that can be used. Its text is one line, without the key.

    Attributes:
        brief: the text without a word of the reply, which may repeat what was asked.
    """

    def __init__(self, reason: str, brief: str = ""):
        super().__init__(reason)
        self.brief = brief or reason


class RefusedError(EndpointError):
    """The endpoint refuses this request, and would refuse it again.

    Attributes:
        status: of the reply, 3xx (the address is another) or 4xx.
        text: the whole reply, without the key.
    """

    def __init__(self, reason: str, status: int, text: str):
        super().__init__(reason, f"status {status}")
        self.status, self.text = status, text


class BusyError(EndpointError):
    """The endpoint asks for another try, later."""


class UnreachableError(EndpointError):
    """There is no way to the endpoint, it has a fault (5xx), or one reply took too long."""


class UnreadableError(EndpointError):
    """The reply is not JSON, or not what was asked for."""


class TooSlowError(EndpointError):
    """All tries together took longer than they may."""


@dataclass(frozen=True)
class Retries:
    """How often a request is made, and after which errors once more."""

    tries: int
    after: tuple[type[EndpointError], ...] = (BusyError, UnreachableError, UnreadableError)


ONCE = Retries(1)


@dataclass(frozen=True)
class Client:
    """Asks one endpoint. Each request has a connection of its own, so none is left open.

    Attributes:
        base_url: the address, as `is_address` takes it.
        key: as `is_key` takes it; empty where none is needed.
        reply_seconds: limit of one reply; None: no limit.
        call_seconds: limit of a call with all its tries and pauses; None: no limit.
    """

    base_url: str
    key: str = field(default="", repr=False)
    reply_seconds: float | None = None
    call_seconds: float | None = None

    async def chat(self, body: dict[str, Any], read: Callable[[Any], T], retries: Retries) -> T:
        """What `read` makes of a chat completion; see `post`."""
        content = json.dumps(body, ensure_ascii=False).encode(errors="replace")  # half a surrogate pair is no JSON
        json_type = {"Content-Type": "application/json"}
        return await self.post("chat/completions", read, retries, content=content, headers=json_type)

    async def post(self, path: str, read: Callable[[Any], T], retries: Retries, **request: Any) -> T:
        """What `read` makes of the JSON of a reply.

        Args:
            read: raises ValueError where the JSON is not what was asked for.
            request: as `httpx.AsyncClient.post` takes it.

        Raises:
            EndpointError: that of the last try, or TooSlowError.
        """
        last: EndpointError | None = None
        try:
            async with asyncio.timeout(self.call_seconds):
                for attempt in range(retries.tries):
                    await asyncio.sleep(PAUSE * (2**attempt - 1))
                    try:
                        return await self._try(path, read, request)
                    except retries.after as error:
                        last = error
        except TimeoutError:
            brief = f"nothing within {self.call_seconds:g} s"
            raise TooSlowError(f"{brief} ({last})" if last else brief, brief) from None
        assert last
        raise last

    async def _try(self, path: str, read: Callable[[Any], T], request: dict[str, Any]) -> T:
        try:
            async with asyncio.timeout(self.reply_seconds):
                reply = await self._send(path, request)
        except TimeoutError:
            raise UnreachableError(f"no reply within {self.reply_seconds:g} s") from None
        except (httpx.HTTPError, ValueError) as error:  # ValueError: of a proxy's address, or of a name's lookup
            raise UnreachableError(self._line(_cause(error))) from None
        if not reply.is_success:
            raise self._failure(reply)
        try:
            body = reply.json()
        except (ValueError, RecursionError):
            brief = "its reply is not JSON"
            raise UnreadableError(f"{brief}: {self._line(reply.text)}", brief) from None
        try:
            return read(body)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(self._line(str(error) or type(error).__name__)) from None

    async def _send(self, path: str, request: dict[str, Any]) -> httpx.Response:
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        by_proxy = not is_near(httpx.URL(self.base_url).host)
        async with httpx.AsyncClient(verify=self._tls, timeout=timeout, trust_env=by_proxy) as client:
            if self.key:
                client.headers["Authorization"] = f"Bearer {self.key}"
            return await client.post(f"{self.base_url.rstrip('/')}/{path}", **request)

    def _failure(self, reply: httpx.Response) -> EndpointError:
        brief = f"status {reply.status_code}"
        reason = f"{brief}: {self._line(reply.text)}"
        if reply.is_server_error:
            return UnreachableError(reason, brief)
        if reply.status_code in LATER:
            return BusyError(reason, brief)
        return RefusedError(reason, reply.status_code, self.without_key(reply.text))

    def _line(self, text: str) -> str:
        return " ".join(self.without_key(text).split())[:REASON_CHARS]

    def without_key(self, text: str) -> str:
        """The text with `[key]` for the key: an endpoint may repeat what it was asked with."""
        return text.replace(self.key, "[key]") if self.key else text

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()  # takes 20 ms, so once


def _cause(error: BaseException) -> str:
    """The system's own reason where there is one, such as "Connection refused": httpx says that all attempts failed."""
    if isinstance(error, BaseExceptionGroup):
        return _cause(error.exceptions[0])
    if below := error.__cause__ or error.__context__:
        return _cause(below)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)  # below 0: of a name's lookup
    return str(error) or type(error).__name__


def text_of(completion: Any) -> str:
    """The text of a chat completion's first choice; empty where it has none.

    Raises:
        ValueError: it is no chat completion, or its content is no text.
    """
    try:
        text = completion["choices"][0]["message"]["content"]
    except (LookupError, TypeError) as error:
        raise ValueError(f"its reply has no message: {error!r}") from None
    if not isinstance(text, str | None):
        raise ValueError(f"its reply has no message in text: {type(text).__name__}")
    return text or ""


def is_address(url: str) -> bool:
    """Whether it is an http or https address with a host."""
    with suppress(httpx.InvalidURL):
        parts = httpx.URL(url)
        return parts.scheme in ("http", "https") and bool(parts.host)
    return False


def is_key(text: str) -> bool:
    """Whether a header can carry it."""
    return text.isascii() and text.isprintable()


def is_near(host: str) -> bool:
    """Whether a host is this one, or of the site's own network by its name or number: no proxy leads there."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_private
    return "." not in host or host.endswith(".localhost")
