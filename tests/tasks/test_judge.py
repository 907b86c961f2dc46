"""A real HTTP server that answers as an OpenAI-compatible endpoint does, in good and in bad ways."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aworld import openai_client
from aworld.config import Endpoint as Config
from aworld.errors import InfrastructureError, InputError
from aworld.tasks import judge as judges
from aworld.tasks.judge import Judge, verdict
from aworld.tasks.task import Undecided

pytestmark = pytest.mark.tools


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_client, "PAUSE", 0.1)


class Endpoint(ThreadingHTTPServer):
    replies: list[tuple[int, object]]
    requests: list[dict]


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        status, reply = self.server.replies.pop(0)
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.send_response(501)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint(("127.0.0.1", 0), Handler)
    server.replies, server.requests = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def judge(endpoint: Endpoint, **more: str) -> Judge:
    return Judge(Config(model="judge", base_url=f"http://127.0.0.1:{endpoint.server_port}/v1/", **more))  # type: ignore[arg-type]


def saying(text: object) -> tuple[int, object]:
    return 200, {"choices": [{"message": {"content": text}}]}


def test_it_is_asked_with_everything_it_needs(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sesame")
    endpoint.replies = [saying("They are the same.\ncorrect: yes"), saying("**Correct: No**\n")]
    asked = judge(endpoint, key_variable="JUDGE_KEY")
    assert asked.agrees("How {many}?", "four", "4") is True
    assert asked.agrees("How {many}?", "five", "4") is False
    request = endpoint.requests[0]
    assert (request["path"], request["key"], request["model"]) == ("/v1/chat/completions", "Bearer sesame", "judge")
    prompt = request["messages"][0]["content"]
    assert "Question: How {many}?" in prompt and "Answer: four" in prompt and "Correct answer: 4" in prompt
    assert request["temperature"] == 0


def test_more_of_each_request_is_what_the_user_says(endpoint: Endpoint) -> None:
    endpoint.replies = [saying("correct: no")]
    extra = {"temperature": 1, "reasoning_effort": "low"}
    config = Config(model="judge", base_url=f"http://127.0.0.1:{endpoint.server_port}/v1", extra=extra)
    assert Judge(config).agrees("q", "half \ud83d", "t") is False
    assert extra.items() <= endpoint.requests[0].items()


def test_what_is_no_verdict_is_asked_again_and_never_guessed(endpoint: Endpoint) -> None:
    endpoint.replies = [(503, {}), saying("It is correct, I think."), saying("correct: yes")]
    assert judge(endpoint).agrees("q", "a", "t") is True
    told = saying("The correct answer is 1969.\n**Correct: no, the year is wrong**")
    endpoint.replies = [saying("correct: yes and no"), saying(None), (200, {"error": "x"}), saying(["x"]), told]
    with pytest.raises(Undecided, match=r"gave no verdict: its reply does not end with one") as caught:
        judge(endpoint).agrees("q", "a", "1969")
    assert not endpoint.replies and "1969" not in str(caught.value)


@pytest.mark.parametrize("failure", [(500, {}), (429, {}), (200, {"error": "x"})])
def test_it_is_asked_again_ever_later_and_in_the_end_a_word(endpoint: Endpoint, failure: tuple[int, object]) -> None:
    endpoint.replies = [failure] * judges.RETRIES.tries + [saying("ok")]
    began = time.monotonic()
    with pytest.raises(Undecided, match=r"500|429|choices"):  # it answers, but not this
        judge(endpoint).agrees("q", "a", "t")
    assert time.monotonic() - began >= 0.1 + 0.3 + 0.7 + 1.5 and not endpoint.replies
    assert endpoint.requests[-1]["messages"][0]["content"] == judges.GREETING
    endpoint.replies = [failure] * (judges.RETRIES.tries + 1)
    with pytest.raises(InfrastructureError, match=r"is away: ") as caught:
        judge(endpoint).agrees("q", "a", "t")
    assert not isinstance(caught.value, Undecided)


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 422])
def test_a_judge_that_refuses_everything_is_told_from_one_that_refuses_this(endpoint: Endpoint, status: int) -> None:
    endpoint.replies = [(status, {"why": "no temperature"})] * 2
    with pytest.raises(InputError, match=f"refuses whatever it is asked, status {status}: .*no temperature.*; mend"):
        judge(endpoint).agrees("q", "a", "t")
    endpoint.replies = [(status, {"refused": "… Correct answer: Lutetia"}), saying("ok")]
    with pytest.raises(Undecided, match=str(status)) as caught:
        judge(endpoint).agrees("q", "a", "Lutetia")
    assert "Lutetia" not in str(caught.value)


def test_so_is_a_judge_that_is_away() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        asked = Judge(Config(model="judge", base_url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1"))
        with pytest.raises(InfrastructureError, match=r"is away: .*refused") as caught:
            asked.agrees("q", "a", "t")
    assert not isinstance(caught.value, Undecided)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("correct: yes", True),
        ("reasons\n\ncorrect: no\n", False),
        ("`correct: yes`", True),
        ("correct：yes", True),
        ("correct: yes。", True),
        ("**ｃｏｒｒｅｃｔ：　ｎｏ．**", False),
        ("一样的。\ncorrect：no｡", False),
        ("correct：yes、", None),
        ("correct：是", None),
        ("correct：yes？", None),
        ("correct: yes。no", None),
        ("correct: yes\nbut then again", None),
        ("incorrect: yes", None),
        ("correct: maybe", None),
        ("", None),
    ],
)
def test_only_the_last_line_counts(reply: str, said: bool | None) -> None:
    assert verdict(reply) is said


def test_a_judge_that_is_not_set_up_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(InputError, match=r"m has no base_url"):
        Judge(Config(model="m"))
    with pytest.raises(InputError, match=r"base_url=localhost:8000/v1 is no address"):
        Judge(Config(model="m", base_url="localhost:8000/v1"))
    with pytest.raises(InputError, match="variable NO_SUCH_KEY is not set"):
        Judge(Config(model="m", base_url="http://localhost", key_variable="NO_SUCH_KEY"))
