"""A teacher's turns become the policy's tokens: compared with the model's own template, and read back."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import Server
from hypothesis import given, settings
from hypothesis import strategies as st
from players import CONFIG, TASK, call, team

from aworld.agents.chat import ChatFormat
from aworld.agents.endpoint import EndpointModel
from aworld.agents.protocols import AssistantMessage, Observation, ToolCall
from aworld.agents.record import Record
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.session import Session
from aworld.agents.teacher import TeacherModel
from aworld.agents.team import Team
from aworld.agents.tokens import PolicyModel
from aworld.config import Agent, Endpoint, Member
from aworld.errors import InfrastructureError, InputError
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["<think>", "</think>", "<|im_end|>", "<tool_call>", "</tool_call>", "<answer>4</answer>", "\n\n", "é"]
)
VALUE = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=2))
CALLS = st.lists(st.builds(ToolCall, TEXT.filter(bool), st.dictionaries(TEXT, VALUE, max_size=2)), max_size=2)
MESSAGES = st.builds(
    lambda thought, content, calls, ended: AssistantMessage("", content, tuple(calls), None, ended, 0, thought=thought),
    *(TEXT, TEXT, CALLS, st.booleans()),
)


class Tools:
    """An Environment with one tool, which evaluates."""

    tools: list[dict[str, Any]] = [  # noqa: RUF012
        {
            "type": "function",
            "function": {
                "name": "python",
                "description": "Run Python code.",
                "parameters": {"type": "object", "properties": {"code": {"type": "string"}}},
            },
        }
    ]
    independent = ()

    async def call(self, name: str, arguments: dict[str, Any]) -> Observation:
        return Observation(str(eval(arguments["code"])), False, 0.25)


@pytest.fixture(scope="module")
def formats(qwen3: Path, checkpoint: Callable[..., Path]) -> dict[str, ChatFormat]:
    return {
        "qwen3": ChatFormat(qwen3),
        "without thinking": ChatFormat(qwen3, enable_thinking=False),
        "demo": ChatFormat(checkpoint()),
    }


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.http.serve_forever, daemon=True).start()
    yield server
    server.http.shutdown()
    server.http.server_close()


def taught(server: Server, chat: ChatFormat, agent: Agent = CONFIG, context: int = 4000, **more: Any) -> TeacherModel:
    endpoint = Endpoint(model="teacher", base_url=server.address, **more)
    return TeacherModel(EndpointModel(endpoint, agent, is_policy=False), chat, context)


def play(model: TeacherModel, agent: Agent = CONFIG) -> Episode:
    return asyncio.run(Team(agent, model).run(TASK, Tools(), round=0, attempt=0, seed=3))


def says(content: str | None, *codes: str, finish: str = "stop", **more: Any) -> dict[str, Any]:
    calls = [
        {"id": f"x{n}", "type": "function", "function": {"name": "python", "arguments": json.dumps({"code": code})}}
        for n, code in enumerate(codes)
    ]
    message = {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {}), **more}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": 9}}


@given(MESSAGES, st.sampled_from(["qwen3", "without thinking", "demo"]))
@settings(max_examples=300, deadline=None)
def test_a_turn_is_read_back_as_it_was_said_or_refused(
    formats: dict[str, ChatFormat], message: AssistantMessage, name: str
) -> None:
    chat = formats[name]
    try:
        token_ids = chat.turn(message)
    except ValueError:
        return
    read, text = chat.parse(token_ids), chat.decode(token_ids)
    normalised = chat.tokenizer.backend_tokenizer.normalizer

    def same(read: str, said: str) -> bool:
        return read == (normalised.normalize_str(said) if normalised else said)

    assert read.error is None and same(read.content, message.content.strip())
    assert same(read.thought, "" if name == "without thinking" else message.thought.strip())
    assert [one.name for one in read.calls] == [one.name for one in message.calls] or normalised
    written = [json.dumps(one.arguments, ensure_ascii=False) for one in read.calls]
    assert all(map(same, written, [json.dumps(one.arguments, ensure_ascii=False) for one in message.calls]))
    special = [token for token in token_ids if token in chat.tokenizer.all_special_ids]
    assert special == [chat.end_of_turn] * message.ended, text  # what it says of special tokens stays text


def test_plain_turns_are_never_refused(formats: dict[str, ChatFormat]) -> None:
    """The property above would hold of a format that refuses everything."""
    thought = "They wrote <tool_call> and <|im_end|>, which is text."
    message = AssistantMessage(
        "", "Let me see: é\n\n1. x", (ToolCall("python", {"code": "print('<|im_end|>')"}),), None, True, 0
    )
    for name, chat in formats.items():
        assert chat.parse(chat.turn(replace(message, thought=thought))).content == message.content, name


def test_an_episode_has_the_tokens_of_the_models_own_template(formats: dict[str, ChatFormat], server: Server) -> None:
    """Thoughts, words, two calls, and the answer: as transformers renders the same messages."""
    chat, end = formats["qwen3"], "So it is.\n\n<answer>42</answer>"
    server.replies[:] = [
        says("I compute.", "6*7", "6+1", reasoning_content="What is it?\nI compute it."),
        says(f"<think>\nBoth are there.\n</think>\n\n{end}"),
    ]
    episode = play(taught(server, chat))
    assert (episode.status, episode.answer, episode.policy_version) == ("answered", "42", -1)
    calls = [{"type": "function", "function": {"name": "python", "arguments": {"code": c}}} for c in ("6*7", "6+1")]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": CONFIG.system_prompt},
        {"role": "user", "content": TASK.question},
        {
            "role": "assistant",
            "content": "I compute.",
            "reasoning_content": "What is it?\nI compute it.",
            "tool_calls": calls,
        },
        {"role": "tool", "content": "42"},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": end, "reasoning_content": "Both are there."},
    ]
    text = chat.tokenizer.apply_chat_template(messages, tools=Tools.tools, tokenize=False).removesuffix("\n")
    assert chat.decode(episode.token_ids) == text
    assert episode.token_ids == chat.tokenizer.encode(text, add_special_tokens=False)
    learned = [token for token, bit in zip(episode.token_ids, episode.mask, strict=True) if bit]
    parts = text.split("<|im_start|>assistant\n")[1:]
    turns = [part.partition("<|im_end|>")[0] + "<|im_end|>" for part in parts]
    assert chat.decode(learned) == "".join(turns) and not any(episode.logprobs)
    assert [turn.tool for turn in episode.tool_turns] == ["python", "python"]
    asked = server.asked[1]["messages"]
    assert [message["role"] for message in asked] == ["system", "user", "assistant", "tool", "tool"]
    assert asked[2]["reasoning_content"] and [m.get("tool_call_id") for m in asked[3:]] == ["x0", "x1"]


@pytest.mark.parametrize(
    ("reply", "status", "reason"),
    [
        (says(None, "6*7") | {"usage": {}}, "answered", ""),
        (says('<tool_call>\n{"name": 1}\n</tool_call>'), "no_answer", "not an object with a"),
        (says("<think>\nHm.", reasoning_content="I was cut", finish="length"), "max_tokens", ""),
        (says("wort " * 300), "max_tokens", "of the policy's tokens, and 200 are left"),
    ],
)
def test_what_the_policy_cannot_say_ends_the_episode(
    formats: dict[str, ChatFormat], server: Server, reply: dict[str, Any], status: str, reason: str
) -> None:
    server.replies[:] = [reply, says("<answer>42</answer>")]
    episode = play(taught(server, formats["demo"]))
    assert episode.status == status and any(reason in turn.text for turn in episode.turns)
    if reason:
        assert not any(episode.mask) and episode.turns[-1].is_error


def test_a_team_and_the_last_turn_are_taught_too(formats: dict[str, ChatFormat], server: Server) -> None:
    agent = replace(
        team({"lead": Member(asks=["clerk"], tools=[]), "clerk": Member(tools=["python"])}), last_turn="answer"
    )
    ask = {"name": "ask_clerk", "arguments": json.dumps({"question": "6*7?"})}
    first = says(None)
    first["choices"][0]["message"]["tool_calls"] = [{"id": "a", "type": "function", "function": ask}]
    server.replies[:] = [first, says(None, "6*7"), says("<answer>42</answer>"), says("<answer>It is 42</answer>")]
    episode = play(taught(server, formats["demo"], agent), agent)
    assert [context.agent for context in episode.contexts] == ["lead", "clerk"] and episode.answer == "It is 42"
    starts = [context.start for context in episode.contexts]
    assert all(any(episode.mask[begin:end]) for begin, end in zip(starts, [*starts[1:], None], strict=True))


def test_a_program_that_asks_the_gateway_is_taught(formats: dict[str, ChatFormat], server: Server) -> None:
    """Its contexts go on from the exact tokens; messages that it brings itself reach the teacher as a client's."""
    chat = formats["qwen3"]
    server.replies[:] = [says(None, "6*7", reasoning_content="Compute."), says("<answer>42</answer>")]
    begun: list[dict[str, Any]] = [
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "old", "type": "function", "function": {"name": "python", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "old", "content": "nothing"},
        {"role": "user", "content": "6*7?"},
    ]

    async def story() -> Session:
        session = Session(CONFIG, taught(server, chat), Tools(), Record(CONFIG, 3))
        _, reply = await session.complete({"messages": begun, "tools": Tools.tools})
        said = reply["choices"][0]["message"]
        assert said["reasoning_content"] == "Compute."
        results = [{"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "42"}]
        await session.complete({"messages": [*begun, said, *results], "tools": Tools.tools})
        return session

    session = asyncio.run(story())
    assert len(session.contexts) == 1
    text = chat.decode(session.contexts[0].chat.token_ids)
    assert text.count("<think>\nCompute.\n</think>") == 1 and text.endswith("<answer>42</answer><|im_end|>")
    first, second = (asked["messages"] for asked in server.asked)
    assert first[1]["tool_calls"][0]["id"] == first[2]["tool_call_id"]
    assert second[4]["tool_calls"][0]["id"] == second[5]["tool_call_id"] == "x0"


def test_a_refused_key_ends_the_run_of_a_program_too(formats: dict[str, ChatFormat], server: Server) -> None:
    server.replies[:] = [(401, "no such key")] * 2

    async def story() -> None:
        session = Session(CONFIG, taught(server, formats["demo"]), Tools(), Record(CONFIG, 3))
        with pytest.raises(InfrastructureError, match="refuses whatever it is asked, status 401"):
            await session.complete({"messages": [{"role": "user", "content": "6*7?"}]})
        with pytest.raises(InputError, match="refuses whatever it is asked, status 401: no such key; check"):
            session.ended.result()

    asyncio.run(story())


def test_a_program_may_leave_parallel_calls_without_a_result(formats: dict[str, ChatFormat], server: Server) -> None:
    server.replies[:] = [says(None, "6*7", "6+1"), says("<answer>42</answer>")]
    asked: list[dict[str, Any]] = [{"role": "user", "content": "6*7?"}]

    async def story() -> None:
        session = Session(CONFIG, taught(server, formats["demo"]), Tools(), Record(CONFIG, 3))
        _, reply = await session.complete({"messages": asked, "tools": Tools.tools})
        said = reply["choices"][0]["message"]
        results = [{"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "42"}]
        await session.complete({"messages": [*asked, said, *results], "tools": Tools.tools})

    asyncio.run(story())
    results = [message for message in server.asked[1]["messages"] if message["role"] == "tool"]
    assert [(one["tool_call_id"], one["content"]) for one in results] == [("x0", "42"), ("x1", "[no result]")]


def test_a_teacher_on_a_shard_has_a_format_of_its_own(formats: dict[str, ChatFormat]) -> None:
    """Its tokens are of its own tokenizer; those of the episode are the policy's."""
    own, policy = formats["qwen3"], formats["demo"]
    script = ScriptedPolicy(own, [f"<think>\nHm\n</think>\n\n{call('python', code='6*7')}", "<answer>42</answer>"])
    model = TeacherModel(PolicyModel(script, own, CONFIG, 4000), policy, 1000)
    episode = play(model)
    assert episode.answer == "42" and episode.reward == 0.0
    text = policy.decode(episode.token_ids)
    assert f"assistant\n<think>\nHm\n</think>\n\n{call('python', code='6*7')}<|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n<answer>42</answer><|im_end|>")
