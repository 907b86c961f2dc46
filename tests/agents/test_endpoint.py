"""The agent around an endpoint: a server that answers as the API's documentation says, and a real vLLM."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from endpoint_server import Server

from aworld.agents.endpoint import EndpointModel, Refused
from aworld.agents.team import Team
from aworld.config import Agent, Config, Endpoint, Environment
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import SubprocessSandbox
from aworld.errors import InputError
from aworld.inference.command import environment, on_cpu
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode

TASK = Task("t", "What is 6*7?", "42", 1)
CONFIG = Agent(system_prompt="Use tools.", max_turns=5, max_tokens=400, turn_tokens=100, episode_seconds=60)


def say(text: Any = None, *code: Any, finish: str = "stop", tokens: int | None = 10) -> dict[str, Any]:
    """A chat completion that says something, or calls python with each `code`."""
    calls = [
        {"id": f"call-{n}", "type": "function", "function": {"name": "python", "arguments": arguments}}
        for n, arguments in enumerate(code)
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": tokens}}


def unnamed(function: dict[str, Any] | None) -> dict[str, Any]:
    reply = say(None, CALL)
    reply["choices"][0]["message"]["tool_calls"][0]["function"] = function
    return reply


def uncounted(text: str) -> dict[str, Any]:
    """Says something and calls python, of an endpoint that counts no tokens."""
    return {key: value for key, value in say(text, CALL).items() if key != "usage"}


CALL = json.dumps({"code": "6*7"})
OK = say("ok")
LENGTH = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."


@pytest.fixture
def serve() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.http.serve_forever, daemon=True).start()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(scope="module")
def episode_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Endpoint, Agent], Episode]]:
    """Play against an endpoint in a real environment, in one event loop for all tests."""
    config = Environment(servers=["python"], slots=1, reuse="reset")
    pool = EnvironmentPool(config, SubprocessSandbox(), None, tmp_path_factory.mktemp("scratch"))
    with asyncio.Runner() as runner:
        runner.run(pool.__aenter__())

        def run(endpoint: Endpoint, config: Agent, model: EndpointModel | None = None, task: Task = TASK) -> Episode:
            async def story() -> Episode:
                async with pool.episode() as world:
                    team = Team(config, model or EndpointModel(endpoint, config))
                    return await team.run(task, world, round=0, attempt=1, seed=3)

            return runner.run(story())

        yield run
        runner.run(pool.__aexit__())


@pytest.fixture
def play(serve: Server, episode_of: Callable[..., Episode]) -> Callable[..., tuple[Episode, list[dict[str, Any]]]]:
    """Play against these replies; returns the episode and what was asked."""

    def run(*given: Any, config: Agent = CONFIG, **more: Any) -> tuple[Episode, list[dict[str, Any]]]:
        serve.replies[:] = given
        endpoint = Endpoint(model="teacher", base_url=serve.address, **more)
        return episode_of(endpoint, config), serve.asked

    return run


@pytest.mark.tools
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


@pytest.mark.tools
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
        ([(503, ""), (429, ""), say("<answer>1</answer>")], {}, "answered"),
        ([{"no": "choices"}, "no JSON", say("<answer>1</answer>")], {}, "answered"),
        ([say([{"type": "text", "text": "<answer>1</answer>"}])], {}, "answered"),
        ([unnamed(None)] * 4, {}, "infra_error"),
        ([unnamed({"arguments": "{}"}), say("<answer>1</answer>")], {}, "answered"),
        ([say(None, {"code": "6*7"}), say("<answer>1</answer>")], {}, "answered"),
        ([say("no end", tokens=None), say("<answer>1</answer>", tokens=None)], {}, "no_answer"),
        ([uncounted("word " * 60)] * 5, {"max_tokens": 100, "max_turns": 50}, "max_tokens"),
    ],
)
def test_how_episodes_end(play: Callable, replies: list[Any], changes: dict[str, Any], status: str) -> None:
    episode, _ = play(*replies, config=replace(CONFIG, **changes))
    assert episode.status == status
    assert bool(episode.error) == (status == "infra_error")


@pytest.mark.tools
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


@pytest.mark.tools
def test_what_a_model_wrote_that_is_no_json_goes_back_as_json(play: Callable) -> None:
    _, asked = play(
        say(None, "{oops", CALL, {"code": "1"}), say("half a pair: \ud800", CALL), say("<answer>1</answer>")
    )
    written = [call["function"]["arguments"] for call in asked[1]["messages"][2]["tool_calls"]]
    assert written == [json.dumps({"": "{oops"}), CALL, json.dumps({"code": "1"})]
    assert asked[2]["messages"][-2]["content"] == "half a pair: ?"


@pytest.mark.tools
@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        ((400, LENGTH), "max_tokens"),
        ((422, '{"error": {"code": "context_length_exceeded"}}'), "max_tokens"),
        ((413, ""), "max_tokens"),
        ((400, "the input was flagged"), "no_answer"),
        ((403, "the input was flagged"), "no_answer"),
    ],
)
def test_a_conversation_that_is_refused_ends_the_episode(play: Callable, refusal: Any, status: str) -> None:
    episode, asked = play(say("hm", CALL), refusal, OK)
    assert (episode.status, episode.answer, episode.error) == (status, None, "")
    last = episode.turns[-1]
    assert (last.role, last.is_error) == ("assistant", True) and f"status {refusal[0]}: {refusal[1]}" in last.text
    assert [len(body["messages"]) for body in asked] == [2, 4, 1]  # once, then a word to see whether it takes others
    assert asked[2] == asked[1] | {"messages": asked[2]["messages"]}


@pytest.fixture
def played(serve: Server, episode_of: Callable[..., Episode]) -> Callable[..., list[Episode]]:
    """Episodes of one worker, each against its replies."""

    def run(questions: list[str], *given: Any) -> list[Episode]:
        endpoint = Endpoint(model="teacher", base_url=serve.address)
        model = EndpointModel(endpoint, CONFIG)
        episodes = []
        for question in questions:
            serve.replies[:] = given
            episodes.append(episode_of(endpoint, CONFIG, model, replace(TASK, question=question)))
        return episodes

    return run


@pytest.mark.tools
def test_what_meets_every_conversation_alike_ends_the_run(played: Callable) -> None:
    """An API that wants something of conversations with tools that it does not get, or whose context is too small."""
    refusal = (400, "reasoning_content is missing")
    reason = "refused 3 conversations of 3 once the model has called a tool: .*status 400: reasoning_content is missing"
    with pytest.raises(InputError, match=reason) as error:
        played(["a"] * 4, say("hm", CALL), refusal, OK)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"as soon as it is asked a question: .* maximum context length is 8192"):
        played(["a", "b", "b"], (400, LENGTH), OK)


@pytest.mark.tools
def test_a_single_question_or_some_conversations_may_be_refused(played: Callable, serve: Server) -> None:
    flagged = (400, "the input was flagged")
    assert [e.status for e in played(["a"] * 5, flagged, OK)] == ["no_answer"] * 5
    model = EndpointModel(Endpoint(model="teacher", base_url=serve.address), CONFIG)
    model.taken(True)
    for question in "abcde":
        model.refused(True, question, Refused("flagged", False))


@pytest.mark.tools
@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "reasoning_details"])
def test_thoughts_of_a_turn_with_calls_go_back(play: Callable, key: str) -> None:
    thoughts = [{"type": "reasoning.text", "text": "I add."}] if key == "reasoning_details" else "I add."
    first, second = say("hm", CALL), say("<answer>42</answer>")
    first["choices"][0]["message"][key] = thoughts
    _, asked = play(first, second)
    assert asked[1]["messages"][2][key] == thoughts


@pytest.mark.tools
def test_calls_that_the_server_left_in_the_text_are_made(play: Callable) -> None:
    made = "I compute.\n<tool_call>\n" + json.dumps({"name": "python", "arguments": {"code": "6*7"}}) + "\n</tool_call>"
    wrong = "<tool_call>\n{oops\n</tool_call>"
    first = say(made)
    first["choices"][0]["message"]["reasoning"] = "I multiply."
    episode, asked = play(first, say(wrong), say("<answer>42</answer>"))
    assert (episode.status, episode.answer) == ("answered", "42")
    assert [(turn.tool, turn.is_error) for turn in episode.turns if turn.role == "tool"] == [
        ("python", False),
        (None, True),
    ]
    said, told, again, error = asked[2]["messages"][2:]
    assert (said["content"], again["content"]) == (made, wrong) and "tool_calls" not in said
    assert (said["reasoning"], "reasoning" in again) == ("I multiply.", False)
    assert told == {"role": "user", "content": "<tool_response>\n42\n</tool_response>"}
    assert "not valid JSON" in error["content"]


@pytest.mark.tools
@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_an_endpoint_that_refuses_whatever_it_is_asked_ends_the_run(play: Callable, status: int) -> None:
    with pytest.raises(
        InputError, match=f"teacher at http://.* refuses .*, status {status}: wrong key; check"
    ) as error:
        play((status, "wrong\nkey"), (status, "wrong\nkey"))
    assert error.value.exit_code == 2 and "\n" not in str(error.value)


@pytest.mark.tools
def test_whether_it_refuses_all_is_not_told_by_one_that_is_busy(play: Callable) -> None:
    episode, asked = play((400, "hm"), (503, "busy"))
    assert (episode.status, len(asked)) == ("infra_error", 2)


@pytest.mark.tools
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": ""}, "x has no base_url"),
        ({"base_url": "localhost:8000/v1"}, "x: base_url=localhost:8000/v1 is no address such as http"),
        ({"base_url": "http://a:b/v1"}, "is no address such as http"),
        ({"key_variable": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"key_variable": "ODD_KEY"}, "ODD_KEY holds what cannot be a key"),
    ],
)
def test_an_endpoint_that_is_not_set_up(changes: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD_KEY", "schlüssel")
    with pytest.raises(InputError, match=message):
        EndpointModel(Endpoint(**{"model": "x", "base_url": "http://x"} | changes), CONFIG)


@pytest.mark.tools
def test_an_endpoint_that_is_away_is_told_from_one_that_refuses(serve: Server) -> None:
    def is_there(address: str, *given: Any) -> bool:
        serve.replies[:] = given
        return asyncio.run(EndpointModel(Endpoint(model="x", base_url=address), CONFIG).is_there())

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not is_there(f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    assert is_there(serve.address, OK)
    assert is_there(serve.address, (429, "slower"))
    assert not is_there(serve.address, (503, "no model behind this gateway"))
    assert not is_there(serve.address, "<html>a page to log in</html>")
    with pytest.raises(InputError, match="refuses whatever it is asked, status 401: wrong key; check the endpoint's"):
        is_there(serve.address, (401, "wrong key"))


@pytest.mark.tools
def test_no_proxy_stands_before_what_is_near(play: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nobody is there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert play(say("<answer>1</answer>"))[0].status == "answered"


@pytest.mark.tools
def test_no_connection_is_left_open(serve: Server) -> None:
    model = EndpointModel(Endpoint(model="x", base_url=serve.address), CONFIG)
    serve.replies[:] = [OK]

    async def left() -> int:
        assert await model.is_there()
        give_up = time.monotonic() + 2
        while serve.connections and time.monotonic() < give_up:
            await asyncio.sleep(0.01)
        return serve.connections

    assert asyncio.run(left()) == 0


@pytest.mark.deep
@pytest.mark.engine
def test_against_a_real_vllm(
    config: Config, checkpoint: Callable[..., Path], episode_of: Callable, tmp_path: Path
) -> None:
    """Random weights say nothing of sense; the protocol, the tokens and the counts are vLLM's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = f"--port {port} --host 127.0.0.1 --served-model-name teacher --max-model-len 512 --max-num-seqs 2"
    words += " --enforce-eager --dtype float32 --enable-auto-tool-choice --tool-call-parser hermes"
    words += " --distributed-executor-backend uni --kv-cache-memory-bytes 100000000"
    command = [sys.executable, "-m", "aworld.inference.serve", "--model", str(checkpoint()), *words.split()]
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as temporary,  # short enough for sockets
        open(tmp_path / "log", "w") as log,
        subprocess.Popen(
            command,
            env=environment(config.model, config.site, Path(temporary), on_cpu()),
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as server,
    ):
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
            agent = Agent(system_prompt="Use tools.", max_turns=2, max_tokens=40, turn_tokens=30, episode_seconds=60)
            one, again = (episode_of(endpoint, agent) for _ in range(2))
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # with its engine and its workers
    assert one.status != "infra_error", one.error
    assert one.token_ids and sum(one.mask) == one.sampling["completion_tokens"] <= 40
    assert one.token_ids == again.token_ids  # the seed is sent
