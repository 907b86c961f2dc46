"""An OpenAI-compatible endpoint on this machine that keeps what it was asked."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import pytest
from local_web import Reply, serving


@dataclass
class Asked:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> dict[str, tuple[str | None, str, bytes]]:
        """Of a multipart form, by name: (file name, type, content)."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = BytesParser(policy=HTTP).parsebytes(head + self.body)
        return {
            part.get_param("name", header="content-disposition"): (
                part.get_filename(),
                part.get_content_type(),
                part.get_payload(decode=True),
            )
            for part in form.iter_parts()  # type: ignore[attr-defined]
        }


@dataclass
class Model:
    """Says `says`, after the replies in `first` are used up; `before` runs before each reply."""

    says: str = "a cat"
    first: list[Reply] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    url: str = ""

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        self.asked.append(Asked(path, dict(headers), body))
        self.before()
        if self.first:
            return self.first.pop(0)
        if path == "/v1/audio/transcriptions":
            return Reply(json.dumps({"text": self.says}).encode(), "application/json")
        if path != "/v1/chat/completions":
            return Reply(b"no such path", status=404)
        choice = {"index": 0, "message": {"role": "assistant", "content": self.says}, "finish_reason": "stop"}
        return Reply(json.dumps({"object": "chat.completion", "choices": [choice]}).encode(), "application/json")


@contextmanager
def model_serving(monkeypatch: pytest.MonkeyPatch, key: str = "") -> Iterator[Model]:
    """A model that all three tools are set up to ask."""
    model = Model()
    with serving(lambda path, headers: Reply(b"", status=405), model.answer) as address:
        model.url = f"{address}/v1"
        for name in ("VISION", "SPEECH", "REASONING"):
            monkeypatch.setenv(f"AWORLD_{name}_URL", model.url + "/")
            monkeypatch.setenv(f"AWORLD_{name}_MODEL", f"{name.lower()}-model")
            monkeypatch.setenv(f"AWORLD_{name}_KEY", key)
            monkeypatch.delenv(f"AWORLD_{name}_SECONDS", raising=False)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield model
