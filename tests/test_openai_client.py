"""The client of endpoints, against a server on this machine."""

import asyncio
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from local_web import Reply
from model_server import Model, model_serving

from aworld import openai_client
from aworld.openai_client import (
    ONCE,
    BusyError,
    Client,
    EndpointError,
    RefusedError,
    Retries,
    TooSlowError,
    UnreachableError,
    UnreadableError,
    is_address,
    is_key,
    is_near,
    text_of,
)

pytestmark = pytest.mark.tools
KEY = "sk-none-of-your-business"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setattr(openai_client, "PAUSE", 0.05)
    with model_serving(monkeypatch, KEY) as model:
        yield model


def asked(model: Model, retries: Retries = ONCE, **limits: float) -> Any:
    return asyncio.run(Client(model.url, KEY, **limits).chat({"model": "m"}, text_of, retries))


@pytest.mark.parametrize(
    ("reply", "kind", "tries"),
    [
        (Reply(b"", status=307, location="http://127.0.0.1:9/"), RefusedError, 1),
        (Reply(b"no such key", status=401), RefusedError, 1),
        *((Reply(b"slower", status=status), BusyError, 3) for status in (408, 409, 425, 429)),
        (Reply(b"upstream is gone", status=502), UnreachableError, 3),
        (Reply(b"<html>"), UnreadableError, 3),
        (Reply(b"[" * 100_000), UnreadableError, 3),
        (Reply(b'{"choices": []}'), UnreadableError, 3),
        (Reply(b'{"choices": [{"message": {"content": ["a"]}}]}'), UnreadableError, 3),
    ],
)
def test_each_failure_has_its_kind_and_what_may_pass_is_tried_again(
    reply: Reply, kind: type[EndpointError], tries: int, model: Model
) -> None:
    model.first = [reply] * 3
    with pytest.raises(kind) as error:
        asked(model, Retries(3))
    assert type(error.value) is kind and len(model.asked) == tries
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert not {"key", "slower", "upstream", "<html>"} & set(error.value.brief.split())
    model.first = [reply] * (tries - 1)
    assert asked(model, Retries(tries)) == "a cat"


def test_only_named_failures_are_tried_again(model: Model) -> None:
    model.first = [Reply(b"<html>")]
    with pytest.raises(UnreadableError, match="its reply is not JSON: <html>"):
        asked(model, Retries(3, after=(BusyError, UnreachableError)))
    assert len(model.asked) == 1


def test_each_pause_is_longer_than_the_one_before(model: Model) -> None:
    times: list[float] = []
    model.before = lambda: times.append(time.monotonic())
    model.first = [Reply(b"", status=503)] * 3
    asked(model, Retries(4))
    pauses = [after - before for before, after in pairwise(times)]
    assert all(pause >= wanted for pause, wanted in zip(pauses, (0.05, 0.15, 0.35), strict=True))


def test_a_reply_has_a_limit(model: Model) -> None:
    slow = [False, True]
    model.before = lambda: time.sleep(0.6) if slow.pop() else None
    assert asked(model, Retries(2), reply_seconds=0.3) == "a cat"
    slow[:] = [True]
    with pytest.raises(UnreachableError, match=r"no reply within 0\.3 s"):
        asked(model, reply_seconds=0.3)


def test_all_tries_together_have_a_limit(model: Model) -> None:
    slow = [True, False]
    model.before = lambda: time.sleep(0.6) if slow.pop() else None
    model.first = [Reply(b"busy", status=503)]
    with pytest.raises(TooSlowError, match=r"nothing within 0\.3 s \(status 503: busy\)"):
        asked(model, Retries(2), call_seconds=0.3)


def test_a_reply_that_trickles_in_has_a_limit_too() -> None:
    async def story() -> None:
        async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
            writer.close()

        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        with pytest.raises(UnreachableError, match=r"no reply within 0\.4 s"):
            await Client(url, reply_seconds=0.4).chat({}, text_of, ONCE)
        server.close()

    asyncio.run(story())


def test_where_nobody_listens_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match=r"^Connection refused$"):
            asyncio.run(Client(f"http://127.0.0.1:{unused.getsockname()[1]}/v1").chat({}, text_of, ONCE))


def test_the_key_is_sent_and_never_shown(model: Model) -> None:
    asked(model)
    assert model.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    for text in (f"no such key: {KEY}", "x" * 190 + KEY):
        model.first = [Reply(text.encode(), status=401)]
        with pytest.raises(RefusedError) as error:
            asked(model)
        assert "sk-" not in str(error.value) + error.value.text
    assert KEY not in repr(Client(model.url, KEY))


def test_half_a_surrogate_pair_is_sent_as_json(model: Model) -> None:
    asyncio.run(Client(model.url).chat({"messages": "half \ud83d"}, text_of, ONCE))
    assert model.asked[0].json == {"messages": "half ?"} and "Authorization" not in model.asked[0].headers


def test_addresses_and_keys() -> None:
    assert all(map(is_address, ("http://login1:8000/v1", "https://api.example.com/v1/")))
    assert not any(map(is_address, ("", "login1:8000/v1", "file:///etc/passwd", "http://", "http://a:port/")))
    assert all(map(is_key, ("", KEY))) and not any(map(is_key, ("two\nlines", "schlüssel")))


def test_which_hosts_are_of_the_site() -> None:
    near = ["localhost", "login1", "127.0.0.1", "::1", "10.1.2.3", "192.168.0.7", "172.16.0.1"]
    assert all(map(is_near, near)) and not any(map(is_near, ["api.example.com", "8.8.8.8", "gpu1.cluster.example.org"]))
