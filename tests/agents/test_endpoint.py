"""The agent around an endpoint: a server that answers as the API's documentation says, and a real vLLM."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from aworld.agents.endpoint import EndpointSpeaker
from aworld.agents.team import Team
from aworld.config import Agent, Endpoint, Environment
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import SubprocessSandbox
from aworld.errors import InputError
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode

TASK = Task("t", "What is 6*7?", "42", 1)
CONFIG = Agent(system_prompt="Use tools.", max_turns=5, max_tokens=400, turn_tokens=100, episode_seconds=60)


def say(text: str | None = None, *code: str, finish: str = "stop", tokens: int = 10) -> dict[str, Any]:
    """A chat completion that says something, or calls python with each `code`."""
    calls = [
        {"id": f"call-{n}", "type": "function", "function": {"name": "python", "arguments": arguments}}
        for n, arguments in enumerate(code)
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": tokens}}


CALL = json.dumps({"code": "6*7"})


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., tuple[Episode, list[dict[str, Any]]]]]:
    """Play against these replies, statuses or completions; returns the episode and what was asked."""
    asked: list[dict[str, Any]] = []
    replies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
            reply = replies.pop(0)
            data = json.dumps(reply).encode()
            self.send_response(reply if isinstance(reply, int) else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(*given: Any, config: Agent = CONFIG, **more: Any) -> tuple[Episode, list[dict[str, Any]]]:
        replies[:] = given
        endpoint = Endpoint(model="teacher", base_url=f"http://127.0.0.1:{server.server_port}/v1/", **more)
        return episode_of(endpoint, config, tmp_path), asked

    yield run
    server.shutdown()
    server.server_close()


def episode_of(endpoint: Endpoint, config: Agent, scratch: Path) -> Episode:
    async def story() -> Episode:
        environment = Environment(servers=["python"], slots=1)
        async with EnvironmentPool(environment, SubprocessSandbox(), None, scratch) as pool, pool.episode() as world:
            team = Team(config, EndpointSpeaker(endpoint, config))
            return await team.run(TASK, world, round=0, attempt=1, seed=3)

    return asyncio.run(story())


@pytest.mark.unit
def test_it_calls_tools_and_answers(play: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "secret")
    episode, asked = play(
        say(None, CALL, CALL),
        say("<think>no <answer>1</answer></think>It is <answer> 42 </answer>"),
        key_variable="TEACHER_KEY",
        extra={"return_token_ids": True},
    )
    assert (episode.status, episode.answer, episode.error) == ("answered", "42", "")
    assert [turn.role for turn in episode.turns] == ["prompt", "assistant", "tool", "tool", "assistant"]
    assert episode.turns[2].text == "42" and episode.sampling["completion_tokens"] == 20
    first, second = asked
    assert (first["path"], first["key"], first["model"]) == ("/v1/chat/completions", "Bearer secret", "teacher")
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["tools"][0]["function"]["name"] == "python" and first["return_token_ids"] is True
    assert first["seed"] != second["seed"] and first["max_tokens"] == 100
    answers = second["messages"][3:]
    assert [(m["role"], m["tool_call_id"], m["content"]) for m in answers] == [
        ("tool", "call-0", "42"),
        ("tool", "call-1", "42"),
    ]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("replies", "changes", "status"),
    [
        ([say("no idea")], {}, "no_answer"),
        ([say("no idea", finish="length")], {}, "max_tokens"),
        ([say(None, CALL, tokens=60)] * 2, {"max_tokens": 100}, "max_tokens"),
        ([say(None, json.dumps({"code": str(n)})) for n in range(5)], {}, "max_turns"),
        ([say(None, CALL)] * 4, {"max_repeats": 2}, "repeated"),
        ([say(None, "{oops"), say("<answer>1</answer>")], {}, "answered"),
        ([say(None, "[1]"), say("<answer>1</answer>")], {}, "answered"),
        ([400], {}, "infra_error"),
        ([503, 429, say("<answer>1</answer>")], {}, "answered"),
        ([{"no": "choices"}, say("<answer>1</answer>")], {}, "answered"),
    ],
)
def test_how_episodes_end(play: Callable, replies: list[Any], changes: dict[str, Any], status: str) -> None:
    episode, _ = play(*replies, config=replace(CONFIG, **changes))
    assert episode.status == status
    assert bool(episode.error) == (status == "infra_error")


@pytest.mark.unit
def test_a_context_that_is_full_goes_on_without_its_first_turns(play: Callable) -> None:
    calls = [say(None, json.dumps({"code": f"print('{n}' * 300)"})) for n in range(4)]
    for reply in calls:
        reply["usage"]["total_tokens"] = 350
    config = replace(CONFIG, context="drop", max_turns=9)
    episode, asked = play(*calls, say("<answer>1</answer>"), config=config, context=500)
    assert (episode.status, len(episode.contexts)) == ("answered", 4)
    last = asked[-1]["messages"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "tool"]
    assert last[1]["content"] == "What is 6*7?\n\n[Your first turns are left out here.]"
    assert last[3]["content"] == "3" * 300


@pytest.mark.unit
def test_an_endpoint_that_is_not_set_up() -> None:
    with pytest.raises(InputError, match="x has no base_url"):
        EndpointSpeaker(Endpoint(model="x"), CONFIG)
    with pytest.raises(InputError, match="NO_SUCH_KEY is not set"):
        EndpointSpeaker(Endpoint(model="x", base_url="http://x", key_variable="NO_SUCH_KEY"), CONFIG)


@pytest.mark.unit
def test_an_endpoint_that_is_away_is_told_from_one_that_refuses() -> None:
    async def is_there(address: str) -> bool:
        return await EndpointSpeaker(Endpoint(model="x", base_url=address), CONFIG).is_there()

    with socket.socket() as unused, ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        unused.bind(("127.0.0.1", 0))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert not asyncio.run(is_there(f"http://127.0.0.1:{unused.getsockname()[1]}/v1"))
        assert asyncio.run(is_there(f"http://127.0.0.1:{server.server_port}/v1"))  # it answers 501
        server.shutdown()


@pytest.mark.engine
def test_against_a_real_vllm(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """Random weights say nothing of sense; the protocol, the tokens and the counts are vLLM's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = f"--port {port} --host 127.0.0.1 --served-model-name teacher --max-model-len 512 --max-num-seqs 2"
    words += " --enforce-eager --dtype float32 --enable-auto-tool-choice --tool-call-parser hermes"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint()), *words.split()]
    env = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with open(tmp_path / "log", "w") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        try:
            give_up = time.monotonic() + 180
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert server.poll() is None and time.monotonic() < give_up, (tmp_path / "log").read_text()[-2000:]
                    time.sleep(0.5)
            endpoint = Endpoint("teacher", f"http://127.0.0.1:{port}/v1", extra={"return_token_ids": True})
            scratch = tmp_path / "scratch"
            scratch.mkdir()
            config = Agent(system_prompt="Use tools.", max_turns=2, max_tokens=40, turn_tokens=30, episode_seconds=60)
            one, again = (episode_of(endpoint, config, scratch) for _ in range(2))
        finally:
            server.kill()
    assert one.status != "infra_error", one.error
    assert one.token_ids and sum(one.mask) == one.sampling["completion_tokens"] <= 40
    assert one.token_ids == again.token_ids  # the seed is sent
