"""How `vision`, `speech` and `reasoning` ask a model behind an OpenAI-compatible endpoint; by httpx (BSD-3).

AWORLD_NAME_URL is its address, such as http://login1:8000/v1, and AWORLD_NAME_MODEL the model's name there;
AWORLD_NAME_KEY its key, where it wants one. The address is a setting, so it may be one of this site.
AWORLD_NAME_SECONDS limits a call with all its tries; in an episode it follows from `environment.tool_seconds.NAME`.
"""

import asyncio
import ipaddress
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from aworld.tools.common.result import UNANSWERED, Result, error, text

TRIES = 3
SECONDS = "120"
CONNECT_SECONDS = 10.0
MOST_CHARS = 250_000  # of an answer: more would not fit a message
REASON_CHARS = 200


class EndpointError(Exception):
    """Why the endpoint gave no answer, in one line without its key."""


@dataclass(frozen=True)
class Endpoint:
    """`name` is that of the tool, whose variables say where it is."""

    name: str
    url: str
    model: str
    key: str = field(repr=False)
    seconds: float

    async def chat(self, content: str | list[dict[str, Any]]) -> str:
        """What the model says to one message, without its thoughts.

        Raises:
            EndpointError: nothing, or nothing that can be read.
        """
        message = {"role": "user", "content": content}
        answer = await self.post("chat/completions", json={"model": self.model, "messages": [message]})
        try:
            choice = answer["choices"][0]
            said = choice["message"]["content"] or ""
            said = said.rpartition("</think>")[2].strip()
        except (LookupError, TypeError, AttributeError) as reason:
            raise EndpointError(f"its reply has no message: {type(reason).__name__}") from None
        cut = choice.get("finish_reason") == "length"
        if not said:
            raise EndpointError("its message is empty" + (": it thought for longer than it may" if cut else ""))
        return said + ("\n[cut: the endpoint lets it say no more]" if cut else "")

    async def post(self, path: str, **request: Any) -> Any:
        """The JSON of a reply. Too many requests, faults of the server and of the way to it are tried three times.

        Raises:
            EndpointError: there is none in time.
        """
        reasons: list[str] = []
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
            far = not is_near(httpx.URL(self.url).host)
            async with (
                asyncio.timeout(self.seconds),
                httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=far) as client,
            ):
                return await self._tries(client, f"{self.url.rstrip('/')}/{path}", request, reasons)
        except TimeoutError:
            last = f" ({reasons[-1]})" if reasons else ""
            more = f"environment.tool_seconds.{self.name} gives more"
            raise EndpointError(f"nothing within {self.seconds:g} s{last}; {more}") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise EndpointError(f"AWORLD_{self.name.upper()}_URL is no address like http://login1:8000/v1") from None

    async def _tries(self, client: httpx.AsyncClient, url: str, request: dict[str, Any], reasons: list[str]) -> Any:
        for attempt in range(TRIES):
            await asyncio.sleep(2.0**attempt - 1.0)
            try:
                reply = await client.post(url, **request)
            except httpx.UnsupportedProtocol:
                raise
            except httpx.TransportError as failure:
                reasons.append(self._line(str(failure) or type(failure).__name__))
                continue
            if reply.is_success:
                try:
                    return reply.json()
                except ValueError:
                    raise EndpointError(f"its reply is not JSON: {self._line(reply.text)}") from None
            reasons.append(self._line(f"status {reply.status_code}: {reply.text}"))
            if reply.status_code != 429 and reply.status_code < 500:
                raise EndpointError(reasons[-1])
        raise EndpointError(f"{reasons[-1]} ({TRIES} tries)")

    def _line(self, said: str) -> str:
        return " ".join(self.without_key(said).split())[:REASON_CHARS]

    def without_key(self, said: str) -> str:
        """A text of the endpoint's, which may repeat what it was asked with."""
        return said.replace(self.key, "[key]") if self.key else said


def of(name: str) -> Endpoint:
    """The endpoint that the variables of this tool name.

    Raises:
        EndpointError: one of them is missing, or no key.
    """
    url, model, key, seconds = (
        os.environ.get(f"AWORLD_{name.upper()}_{what}", "").strip() for what in ("URL", "MODEL", "KEY", "SECONDS")
    )
    missing = [f"AWORLD_{name.upper()}_{what}" for what, value in (("URL", url), ("MODEL", model)) if not value]
    if missing:
        raise EndpointError(f"none is set up here; set {' and '.join(missing)}")
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(f"AWORLD_{name.upper()}_KEY is no key: it has characters that a header cannot have")
    return Endpoint(name, url, model, key, float(seconds or SECONDS))


def told(endpoint: Endpoint, answer: str) -> Result:
    """An answer, as the tool's result."""
    return text(endpoint.without_key(answer)[:MOST_CHARS])


def failed(reason: EndpointError) -> Result:
    """The result that says so; no cache keeps it."""
    return error(f"{UNANSWERED}: {reason}")


def is_near(host: str) -> bool:
    """Whether a host is this one, or in the site's own network by its name or number: no proxy leads there."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_private
    return "." not in host or host.endswith(".localhost")
