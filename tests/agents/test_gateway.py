"""Programs ask through the gateway, by the real clients of OpenAI and MCP, and a scripted policy answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from openai import AsyncOpenAI
from players import CONFIG, TASK, Recording, call

from aworld.agents.chat import ChatFormat
from aworld.agents.gateway import Gateway
from aworld.agents.protocols import Completion, Observation, Policy, Sampling
from aworld.agents.record import Record
from aworld.agents.session import REFUSALS, Session
from aworld.agents.tokens import PolicyModel
from aworld.config import Agent
from aworld.errors import InfrastructureError
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit

TOOL = {
    "type": "function",
    "function": {
        "name": "python",
        "description": "Run Python code.",
        "parameters": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    },
}
ASKED: list[Any] = [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "What is 6*7?"}]


class Tools:
    """An Environment with one tool, which evaluates."""

    tools: list[dict[str, Any]] = [TOOL]  # noqa: RUF012
    independent = ()

    async def call(self, name: str, arguments: dict[str, Any]) -> Observation:
        if arguments["code"] == "gone":
            raise InfrastructureError("the environment is gone")
        return Observation(str(eval(arguments["code"])), False, 0.25)


@dataclass
class Door:
    """What a program and a test see of an episode."""

    client: AsyncOpenAI
    session: Session
    http: httpx.AsyncClient
    key: str

    async def ask(self, *messages: Any, **settings: Any) -> Any:
        done = await self.client.chat.completions.create(model="any", messages=list(messages), **settings)
        return done.choices[0].message


Story = Callable[[Door], Awaitable[None]]


@pytest.fixture(scope="module")
def through(chat: ChatFormat) -> Iterator[Callable[..., Episode]]:
    """`through(policy, story)`: the episode that a program makes which asks as `story(door)` does."""
    with asyncio.Runner() as runner:
        gateway = Gateway()
        runner.run(gateway.start())
        http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(gateway.socket)))
        client = AsyncOpenAI(api_key="none", base_url="http://gateway/v1", http_client=http, max_retries=0)

        def play(policy: Policy, story: Story, agent: Agent = CONFIG, context: int = 1000) -> Episode:
            async def run() -> Episode:
                session = Session(agent, PolicyModel(policy, chat, agent, context), Tools(), Record(agent, 3))
                with gateway.serving(session) as key:
                    await story(Door(client.with_options(api_key=key), session, http, key))
                    await session.close()
                    return session.record.episode(TASK, None, "no_answer", "", {}, round=1, attempt=0)

            return runner.run(run())

        yield play
        runner.run(http.aclose())
        runner.run(gateway.stop())


def contexts(episode: Episode) -> list[tuple[list[int], list[int], list[float]]]:
    """Token ids, mask and log-probabilities of each context."""
    starts = [*(context.start for context in episode.contexts), len(episode.token_ids)]
    spans = [slice(*pair) for pair in pairwise(starts)]
    return [(episode.token_ids[one], episode.mask[one], episode.logprobs[one]) for one in spans]


def check_exact(episode: Episode, policy: Recording) -> None:
    """Every context is what the policy was asked last in it, and then what it said; the mask is on what it said."""
    found = set()
    for ids, mask, logprobs in contexts(episode):
        expected, end = [0] * len(ids), 0
        for number, said in enumerate(policy.said):
            prompt, _ = policy.asked[number]
            whole = prompt + said.token_ids
            if ids[: len(whole)] == whole and all(mask[len(prompt) : len(whole)]):
                expected[len(prompt) : len(whole)] = [1] * len(said.token_ids)
                end = max(end, len(whole))
                found.add(number)
        assert (mask, len(ids)) == (expected, end)
        assert logprobs == [-0.5 * bit for bit in mask]
    assert len(found) == len(policy.said)
    assert sum(episode.mask) == sum(len(said.token_ids) for said in policy.said)


def test_a_conversation_is_one_context_that_only_grows(through, script, chat):
    policy = script(call("python", code="6*7"), "Is it so?", "<answer>42</answer>")

    async def story(door: Door) -> None:
        first = await door.ask(*ASKED, tools=[TOOL])
        (made,) = first.tool_calls
        assert (made.function.name, json.loads(made.function.arguments)) == ("python", {"code": "6*7"})
        assert first.content is None
        result = {"role": "tool", "tool_call_id": made.id, "content": "42"}
        second = await door.ask(*ASKED, first, result, tools=[TOOL])
        assert (second.content, second.tool_calls) == ("Is it so?", None)
        last = await door.ask(*ASKED, first, result, second, {"role": "user", "content": "Yes."}, tools=[TOOL])
        assert last.content == "<answer>42</answer>"

    episode = through(policy, story)
    check_exact(episode, policy)
    text = chat.decode(episode.token_ids)
    assert text.count("<|im_start|>system") == 1 and text.endswith(
        "Yes.<|im_end|>\n<|im_start|>assistant\n<answer>42</answer><|im_end|>"
    )
    assert policy.asked[0][0] == chat.prompt("Use tools.", "What is 6*7?", [TOOL])  # as our own agents ask
    assert [(one.agent, one.start) for one in episode.contexts] == [("program", 0)]
    assert episode.policy_version == 7


def rewritten(message: dict[str, Any]) -> dict[str, Any]:
    """A turn as clients send it back: other ids, other spaces, no thoughts, fields of their own."""
    calls = [
        {
            "type": "function",
            "id": "mine",
            "function": {
                "arguments": json.dumps(dict(reversed(json.loads(one["function"]["arguments"]).items())), indent=2),
                "name": one["function"]["name"],
            },
        }
        for one in message.get("tool_calls") or []
    ]
    content = message["content"] and f" {message['content']}\n"
    return {
        "name": "x",
        "content": content or "",
        "refusal": None,
        "role": "assistant",
        **({"tool_calls": calls} if calls else {}),
    }


def test_what_clients_change_of_a_message_does_not_matter(through, script):
    first = (
        '<think>Hm.</think>So.\n<tool_call>\n{"name": "python", "arguments": {"code": "1", "more": [2]}}\n</tool_call>'
    )
    policy = script(first, "<answer>42</answer>")

    async def story(door: Door) -> None:
        message = await door.ask(*ASKED, tools=[TOOL])
        assert (message.content, message.reasoning_content) == ("So.", "Hm.")
        sent = rewritten(message.model_dump())
        question = {"role": "user", "content": [{"type": "text", "text": "What is 6*7?"}]}
        system = {"role": "developer", "content": "Use tools.  "}
        tool = json.loads(json.dumps(TOOL, sort_keys=True)) | {"strict": None}
        await door.ask(system, question, sent, {"role": "tool", "content": "42", "tool_call_id": "mine"}, tools=[tool])

    episode = through(policy, story)
    assert len(episode.contexts) == 1
    check_exact(episode, policy)


@pytest.mark.parametrize(
    "change",
    [
        lambda said, result: ([*ASKED[:1], {"role": "user", "content": "Something else."}, said, result], [TOOL]),
        lambda said, result: ([*ASKED, {**said, "content": "I did not say so."}, result], [TOOL]),
        lambda said, result: ([*ASKED, said, result, {"role": "assistant", "content": "Nor that."}], [TOOL]),
        lambda said, result: ([*ASKED, said, result], []),  # other tools are another prompt
        lambda said, result: ([*ASKED], [TOOL]),
    ],
    ids=["another question", "another turn", "a turn of its own", "other tools", "the same again"],
)
def test_what_does_not_continue_a_conversation_begins_a_context(change, through, script):
    policy = script(call("python", code="6*7"), "<answer>42</answer>")

    async def story(door: Door) -> None:
        said = (await door.ask(*ASKED, tools=[TOOL])).model_dump(exclude_none=True)
        messages, tools = change({"content": None, **said}, {"role": "tool", "content": "42", "tool_call_id": "x"})
        await door.ask(*messages, **({"tools": tools} if tools else {}))

    episode = through(policy, story)
    assert [one.agent for one in episode.contexts] == ["program", "program"]
    check_exact(episode, policy)


def test_a_stream_has_the_same_parts(through, script):
    policy = script("<think>Hm.</think>Let me see." + call("python", code="6*7"), "<answer>42</answer>")

    async def story(door: Door) -> None:
        asked = {"model": "m", "messages": ASKED, "tools": [TOOL], "stream": True}
        stream = await door.client.chat.completions.create(**asked, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert deltas[0].role == "assistant"
        assert "".join(delta.content or "" for delta in deltas) == "Let me see."
        (made,) = [one for delta in deltas for one in delta.tool_calls or []]
        assert (made.index, made.function.name, made.function.arguments) == (0, "python", '{"code": "6*7"}')
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
        assert chunks[-1].usage.completion_tokens == len(policy.said[0].token_ids)
        assert chunks[-1].usage.prompt_tokens == len(policy.asked[0][0])
        async with door.client.chat.completions.stream(model="m", messages=ASKED) as events:  # the helper that checks
            final = await events.get_final_completion()
        assert final.choices[0].message.content == "<answer>42</answer>"

    check_exact(through(policy, story), policy)


class Slow:
    """A policy that answers each question by its last word, the first one last."""

    def __init__(self, chat: ChatFormat):
        self.chat, self.running, self.most = chat, 0, 0

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.02)
        self.running -= 1
        ids = self.chat.assistant("Yes.")
        return Completion(ids, [-0.5] * len(ids), "stop", 7)


def test_requests_at_the_same_time_have_contexts_of_their_own(through, chat):
    policy = Recording(Slow(chat))  # type: ignore[arg-type]

    async def story(door: Door) -> None:
        await asyncio.gather(*(door.ask({"role": "user", "content": f"Is {n % 5} odd?"}) for n in range(10)))

    episode = through(policy, story, replace(CONFIG, max_turns=10))
    assert len(episode.contexts) == 10 and policy.policy.most > 1  # type: ignore[attr-defined]
    check_exact(episode, policy)


def test_requests_at_the_same_time_stay_within_the_tokens_of_the_episode(through, chat):
    class Talks:
        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            await asyncio.sleep(0.02)
            ids = (chat.assistant("Yes.") * 9)[: sampling.max_tokens]
            return Completion(ids, [-0.5] * len(ids), "length", 7)

    policy = Recording(Talks())  # type: ignore[arg-type]

    async def story(door: Door) -> None:
        asked = (door.ask({"role": "user", "content": f"Is {n} odd?"}) for n in range(6))
        given = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in given if isinstance(each, Exception)]
        assert len(refused) == 3 and all("the episode's 20 tokens are used up" in str(each) for each in refused)

    episode = through(policy, story, replace(CONFIG, max_turns=10, max_tokens=20, turn_tokens=8))
    assert sum(episode.mask) == 20
    assert [sampling.max_tokens for _, sampling in policy.asked] == [8, 8, 4]


def test_the_limits_hold_and_say_so(through, chat, script):
    async def story(door: Door) -> None:
        await door.ask(*ASKED)
        await door.ask(*ASKED, max_tokens=3)
        with pytest.raises(openai.PermissionDeniedError, match="the episode's 2 turns are used up; answer now"):
            await door.ask(*ASKED)
        assert door.session.limit == "max_turns"

    policy = script("A", "B", "C")
    through(policy, story, replace(CONFIG, max_turns=2))
    assert [sampling.max_tokens for _, sampling in policy.asked] == [200, 3]

    async def tokens(door: Door) -> None:
        await door.ask(*ASKED)
        with pytest.raises(openai.PermissionDeniedError, match="the episode's 2 tokens are used up"):
            await door.ask(*ASKED)
        assert door.session.limit == "max_tokens"

    through(script("A", "B"), tokens, replace(CONFIG, max_tokens=2))

    async def length(door: Door) -> None:
        with pytest.raises(openai.BadRequestError, match="the context holds 60; send fewer") as refusal:
            await door.ask({"role": "user", "content": "much " * 80})
        assert refusal.value.code == "context_length_exceeded"
        await door.ask({"role": "user", "content": "less"})
        assert door.session.limit is None  # the program has helped itself

    assert len(through(script("A"), length, context=60).contexts) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "a list of messages is needed"),
        ({"messages": ASKED, "n": 2}, "one choice"),
        ({"messages": ASKED, "response_format": {"type": "json_object"}}, "samples freely"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "text alone"),
        ({"messages": [{"role": "robot", "content": ""}]}, "no role 'robot'"),
        ({"messages": ASKED, "tools": [{"name": "f"}]}, "each needs a function"),
    ],
)
def test_what_the_policy_cannot_do_is_refused(body, message, through, script):
    async def story(door: Door) -> None:
        reply = await door.http.post(
            "http://gateway/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {door.key}"}
        )
        assert reply.status_code == 400 and message in reply.json()["error"]["message"]

    assert through(script(), story).token_ids == []


def test_without_the_key_there_is_nothing_and_other_doors_are_closed(through, script):
    async def story(door: Door) -> None:
        with pytest.raises(openai.AuthenticationError):
            await door.client.with_options(api_key="guessed").chat.completions.create(model="m", messages=ASKED)
        assert (await door.http.post("http://gateway/mcp/guessed/", json={})).status_code == 404
        with pytest.raises(openai.NotFoundError, match="there are /v1/chat/completions and /v1/models"):
            await door.client.responses.create(model="m", input="?")
        assert [model.id async for model in door.client.models.list()] == ["policy"]

    through(script(), story)


def test_a_program_that_floods_the_gateway_is_ended(through, script):
    async def story(door: Door) -> None:
        for _ in range(REFUSALS + 1):
            with pytest.raises(openai.APIStatusError):
                await door.ask(*ASKED, n=2)
        status, reason = await door.session.ended
        assert status == "no_answer" and reason.startswith("it went on after 100 refusals; the last: n: the policy")
        with pytest.raises(openai.PermissionDeniedError, match="the episode has ended"):
            await door.ask(*ASKED)

    through(script("A"), story)


def test_a_request_that_was_given_up_is_sampled_anew_in_its_context(through, chat, script):
    class FirstHangs:
        def __init__(self) -> None:
            self.policy = script("A", "B")
            self.begun = asyncio.Event()

        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            if not self.begun.is_set():
                self.begun.set()
                await asyncio.sleep(60)
            return await self.policy.generate(prompt_ids, sampling)

    policy = FirstHangs()

    async def story(door: Door) -> None:
        asking = asyncio.create_task(door.ask(*ASKED))
        await policy.begun.wait()
        asking.cancel()
        while door.session.record.model_turns:
            await asyncio.sleep(0.01)
        first = await door.ask(*ASKED)
        await door.ask(*ASKED, first, {"role": "user", "content": "Go on."})

    episode = through(policy, story)
    assert len(episode.contexts) == 1
    check_exact(episode, policy.policy)


def test_a_policy_that_is_gone_ends_the_episode(through, script):
    async def story(door: Door) -> None:
        with pytest.raises(openai.InternalServerError, match="the script has no more turns"):
            await door.ask(*ASKED)
        assert (await door.session.ended)[0] == "infra_error"

    through(script(), story)


def test_the_tools_are_an_mcp_server_and_calls_are_on_record(through, script):
    policy = script(call("python", code="6*7"), "<answer>42</answer>")

    async def story(door: Door) -> None:
        said = await door.ask(*ASKED, tools=[TOOL])
        async with Client(streamable_http_client(f"http://gateway/mcp/{door.key}/", http_client=door.http)) as tools:
            (tool,) = (await tools.list_tools()).tools
            assert (tool.name, tool.input_schema) == ("python", TOOL["function"]["parameters"])
            seen = await tools.call_tool("python", {"code": "6*7"})
            assert (seen.content[0].text, seen.is_error) == ("42", False)
        await door.ask(*ASKED, said, {"role": "tool", "content": "42", "tool_call_id": "x"}, tools=[TOOL])

    episode = through(policy, story)
    assert [turn.role for turn in episode.turns] == ["prompt", "assistant", "tool", "assistant"]
    (made,) = episode.tool_turns
    assert (made.tool, made.arguments, made.text, made.seconds) == ("python", {"code": "6*7"}, "42", 0.25)
    assert episode.seconds["tools"] == 0.25


def test_a_stop_word_ends_what_the_program_reads_and_no_tokens(through, script, chat):
    policy = script("Thought: so. Observation: made up", "B")

    async def story(door: Door) -> None:
        first = await door.ask(*ASKED, stop=["Observation:"])
        assert first.content == "Thought: so. "
        await door.ask(*ASKED, first, {"role": "user", "content": "Observation: 42"}, stop=["Observation:"])

    episode = through(policy, story)
    assert len(episode.contexts) == 1 and "made up" in chat.decode(episode.token_ids)
    check_exact(episode, policy)


TEXT = st.text(max_size=20)
TURN = st.one_of(
    TEXT.map(lambda text: text.replace("<", "")),
    TEXT.map(lambda code: call("python", code=code)),
    st.sampled_from(
        ["<tool_call>{", "<think>a</think>b", "<answer>1</answer>", call("f") + call("g", x="</tool_call>")]
    ),
)
STEP = st.tuples(TURN, st.sampled_from(["go on", "go on", "go on", "begin", "back"]), TEXT, st.booleans())


@settings(max_examples=40)
@given(steps=st.lists(STEP, min_size=1, max_size=6))
def test_any_conversation_is_prompt_and_samples_with_the_mask_on_the_samples(steps, through, script):
    policy = script(*(turn for turn, _, _, _ in steps))

    async def story(door: Door) -> None:
        messages: list[Any] = [*ASKED]
        for _, way, text, changes in steps:
            said = (await door.ask(*messages, tools=[TOOL])).model_dump(exclude_none=True)
            said = rewritten({"content": None, **said}) if changes else said
            calls = said.get("tool_calls", ())
            results = [{"role": "tool", "tool_call_id": one["id"], "content": text} for one in calls]
            new = [said, *(results or [{"role": "user", "content": text}])]
            messages = {"go on": messages + new, "begin": [{"role": "user", "content": text}], "back": messages}[way]

    episode = through(policy, story, replace(CONFIG, max_turns=6, max_tokens=10**6), context=10**6)
    begun = 1 + sum(way != "go on" for _, way, _, _ in steps[:-1])
    is_told_apart = len({turn for turn, *_ in steps}) == len(steps)  # else a request may go on from a reply like it
    assert len(episode.contexts) == begun if is_told_apart else len(episode.contexts) <= begun
    check_exact(episode, policy)
