"""The endpoint of `vision`, `speech` and `reasoning`, as environment variables name it.

AWORLD_NAME_URL is its address, such as http://login1:8000/v1, and AWORLD_NAME_MODEL the model's name there;
AWORLD_NAME_KEY its key, where it wants one. The address is a setting, so it may be one of this site.
AWORLD_NAME_SECONDS limits a call with all its tries; in an episode it follows from `environment.tool_seconds.NAME`.
"""

import os
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from aworld.openai_client import (
    BusyError,
    Client,
    EndpointError,
    Retries,
    TooSlowError,
    UnreachableError,
    is_address,
    is_key,
    text_of,
)
from aworld.tools.common.result import UNANSWERED, Result, error, text

RETRIES = Retries(3, after=(BusyError, UnreachableError))
SECONDS = "120"
MOST_CHARS = 250_000  # of an answer: more would not fit a message

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """The endpoint of the tool `name`, and the model there."""

    name: str
    model: str
    client: Client

    async def chat(self, content: str | list[dict[str, Any]]) -> str:
        """The model's answer to one message, without its thoughts.

        Raises:
            EndpointError: there is none, or none that can be read.
        """
        message = {"role": "user", "content": content}
        body = {"model": self.model, "messages": [message]}
        return await self._asked(self.client.chat(body, _answer, RETRIES))

    async def transcribe(self, name: str, kind: str, content: bytes) -> str:
        """The words of an audio file of this name and media type.

        Raises:
            EndpointError: as `chat`.
        """
        form = {"model": self.model, "response_format": "json"}
        sent = {"data": form, "files": {"file": (name, content, kind)}}
        return await self._asked(self.client.post("audio/transcriptions", _transcript, RETRIES, **sent))

    async def _asked(self, request: Awaitable[T]) -> T:
        try:
            return await request
        except (BusyError, UnreachableError) as failure:
            raise EndpointError(f"{failure} ({RETRIES.tries} tries)") from None
        except TooSlowError as failure:
            raise EndpointError(f"{failure}; environment.tool_seconds.{self.name} gives more") from None


def of(name: str) -> Endpoint:
    """The endpoint that the variables of this tool name.

    Raises:
        EndpointError: one of them is missing, or is no address or key.
    """
    url, model, key, seconds = (
        os.environ.get(f"AWORLD_{name.upper()}_{what}", "").strip() for what in ("URL", "MODEL", "KEY", "SECONDS")
    )
    missing = [f"AWORLD_{name.upper()}_{what}" for what, value in (("URL", url), ("MODEL", model)) if not value]
    if missing:
        raise EndpointError(f"none is set up here; set {' and '.join(missing)}")
    if not is_address(url):
        raise EndpointError(f"AWORLD_{name.upper()}_URL is no address like http://login1:8000/v1")
    if not is_key(key):
        raise EndpointError(f"AWORLD_{name.upper()}_KEY is no key: it has characters that a header cannot have")
    return Endpoint(name, model, Client(url, key, call_seconds=float(seconds or SECONDS)))


def _answer(completion: Any) -> str:
    answer = text_of(completion).rpartition("</think>")[2].strip()
    is_cut = completion["choices"][0].get("finish_reason") == "length"
    if not answer:
        raise ValueError("its message is empty" + (": it thought for longer than it may" if is_cut else ""))
    return answer + ("\n[cut: the endpoint lets it say no more]" if is_cut else "")


def _transcript(reply: Any) -> str:
    if not isinstance(reply, dict) or not isinstance(reply.get("text"), str):
        raise ValueError("its reply has no text")
    return str(reply["text"].strip())


def told(endpoint: Endpoint, answer: str) -> Result:
    """An answer, as the tool's result."""
    return text(endpoint.client.without_key(answer)[:MOST_CHARS])


def failed(reason: EndpointError) -> Result:
    """The error result of a failure; no cache keeps it."""
    return error(f"{UNANSWERED}: {reason}")
