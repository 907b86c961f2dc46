"""Several agents with one policy, in a real environment: who says what, and whose tokens are whose."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from players import CONFIG, Recording

from aworld.agents.chat import ChatFormat
from aworld.agents.loop import SUMMARISE
from aworld.agents.protocols import Completion, Sampling
from aworld.agents.scripted import ScriptedPolicy
from aworld.config import Agent, Endpoint, Member
from aworld.errors import InputError
from aworld.evaluation.trace import spans
from aworld.trajectories.episode import Episode
from aworld.trajectories.file import from_episodes

pytestmark = pytest.mark.unit

Play = Callable[..., Episode]
Script = Callable[..., Recording]


def call(name: str, **arguments: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def team(members: dict[str, Member], **changes: object) -> Agent:
    return replace(CONFIG, members=members, max_turns=12, max_tokens=2000, **changes)  # type: ignore[arg-type]


def owners(episode: Episode) -> list[str]:
    return [context.agent for context in episode.contexts]


def assert_exact(episode: Episode, policy: Recording) -> None:
    """Every token that was sampled is there once, masked, in a context that begins with what its sampler had seen."""
    assert sum(episode.mask) == sum(len(said.token_ids) for said in policy.said)
    bounds = [*(context.start for context in episode.contexts), len(episode.token_ids)]
    contexts = [slice(*span) for span in pairwise(bounds)]
    found = []
    for (prompt, _), said in zip(policy.asked, policy.said, strict=True):
        whole = prompt + said.token_ids
        (at,) = {c.start for c in contexts if episode.token_ids[c][: len(whole)] == whole}
        sampled = range(at + len(prompt), at + len(whole))
        assert all(episode.mask[n] and episode.logprobs[n] == -0.5 for n in sampled)
        found += sampled
    assert sorted(found) == [n for n, bit in enumerate(episode.mask) if bit]


def test_an_agent_asks_another_which_has_its_own_prompt_and_tools(chat: ChatFormat, play: Play, script: Script) -> None:
    members = {"solver": Member("Solve.", tools=["python"], asks=["checker"]), "checker": Member("Check.", tools=[])}
    policy = script(
        call("python", code="6*7"),
        call("ask_checker", question="Is it 42?"),
        call("python", code="1"),
        "<answer>yes, 42</answer>",
        "<answer>42</answer>",
    )
    episode = play(policy, team(members), 4000)
    assert (episode.status, episode.answer, owners(episode)) == ("answered", "42", ["solver", "checker"])
    assert_exact(episode, policy)
    tools = [(t.tool, t.text, t.context) for t in episode.turns if t.tool]
    assert tools == [
        ("python", "42", 0),
        ("python", "error: no tool 'python'; there are: ", 1),
        ("ask_checker", "yes, 42", 0),
    ]
    first = chat.decode(policy.asked[2][0])
    assert "Check." in first and "Is it 42?" in first and "Solve." not in first and "6*7" not in first
    assert "yes, 42" in chat.decode(policy.asked[4][0])
    rows = from_episodes(1, [episode])
    begins, ends, _ = rows.spans()
    assert [row["agent"] for row in rows.contexts] == [b"solver", b"checker"]
    assert rows.tokens[begins[1] : ends[1]].tolist() == policy.asked[3][0] + policy.said[3].token_ids


def test_an_agent_that_is_asked_twice_starts_anew(play: Play, script: Script) -> None:
    members = {"solver": Member(asks=["checker"]), "checker": Member()}
    ask = call("ask_checker", question="?")
    policy = script(ask + ask, "<answer>1</answer>", "<answer>2</answer>", "<answer>12</answer>")
    episode = play(policy, team(members), 4000)
    assert owners(episode) == ["solver", "checker", "checker"]
    assert [turn.text for turn in episode.turns if turn.tool] == ["1", "2"]
    assert len({tuple(prompt) for prompt, _ in policy.asked[1:3]}) == 1
    assert sum(episode.mask) == sum(len(said.token_ids) for said in policy.said)


def test_a_question_is_handed_over_for_good(chat: ChatFormat, play: Play, script: Script) -> None:
    members = {"clerk": Member(tools=[], hands_to=["solver"]), "solver": Member("Solve.", hands_to=["clerk"])}
    policy = script(
        call("hand_to_solver", notes="it is easy") + call("python", code="never run"),
        call("python", code="6*7"),
        "<answer>42</answer>",
    )
    episode = play(policy, team(members), 4000)
    assert (episode.status, episode.answer, owners(episode)) == ("answered", "42", ["clerk", "solver"])
    assert_exact(episode, policy)
    assert [turn.tool for turn in episode.turns if turn.tool] == ["hand_to_solver", "python"]
    prompt = chat.decode(policy.asked[1][0])
    assert "What is 6*7?" in prompt and "clerk leaves this to you, and says: it is easy" in prompt


def test_who_was_asked_may_hand_over_and_the_answer_reaches_who_asked(play: Play, script: Script) -> None:
    members = {"a": Member(asks=["b"]), "b": Member(hands_to=["c"]), "c": Member()}
    policy = script(
        call("ask_b", question="?"), call("hand_to_c", notes="you"), "<answer>from c</answer>", "<answer>x</answer>"
    )
    episode = play(policy, team(members), 4000)
    assert (episode.answer, owners(episode)) == ("x", ["a", "b", "c"])
    assert ("ask_b", "from c") in [(turn.tool, turn.text) for turn in episode.turns]


def test_a_workflow_passes_on_what_was_found(chat: ChatFormat, play: Play, script: Script) -> None:
    members = {"planner": Member("Plan."), "solver": Member("Solve."), "writer": Member("Write.")}
    policy = script("First multiply.", "<answer>it is 42</answer>", "<answer>42</answer>")
    episode = play(policy, team(members, order=["planner", "solver", "writer"]), 4000)
    assert (episode.status, episode.answer, owners(episode)) == ("answered", "42", ["planner", "solver", "writer"])
    assert_exact(episode, policy)
    prompt = chat.decode(policy.asked[2][0])
    assert "planner: First multiply." in prompt and "solver: it is 42" in prompt and "Write." in prompt


@pytest.mark.parametrize(
    ("verdicts", "answer"),
    [
        (["<answer>Accept</answer>"], "1"),
        (["<answer>no</answer>", "accept"], "2"),
        (["no", "<answer>no</answer>"], "3"),
    ],
)
def test_a_guard_sees_an_answer_before_it_is_given(
    chat: ChatFormat, play: Play, script: Script, verdicts: list[str], answer: str
) -> None:
    members = {"solver": Member(guard="guard"), "guard": Member("Verify.", tools=[])}
    plan = [said for n, verdict in enumerate(verdicts, 1) for said in (f"<answer>{n}</answer>", verdict)]
    policy = script(*plan, *(["<answer>3</answer>"] if answer == "3" else []))
    episode = play(policy, team(members), 4000)
    assert (episode.status, episode.answer) == ("answered", answer)
    assert sum(episode.mask) == sum(len(said.token_ids) for said in policy.said)
    assert "Proposed answer: 1" in chat.decode(policy.asked[1][0])
    if answer != "1":
        assert "guard objects: no" in chat.decode(policy.asked[2][0])


def test_who_takes_too_long_is_left_and_the_others_go_on(chat: ChatFormat, play: Play) -> None:
    class SlowChecker:
        def __init__(self) -> None:
            self.script = ScriptedPolicy(chat, [call("ask_checker", question="?"), "<answer>42</answer>"])

        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            if "Check." in chat.decode(prompt_ids):
                await asyncio.sleep(30)
            return await self.script.generate(prompt_ids, sampling)

    members = {"solver": Member(asks=["checker"]), "checker": Member("Check.", seconds=0.3)}
    episode = play(SlowChecker(), team(members), 4000)
    assert (episode.status, episode.answer) == ("answered", "42")
    (turn,) = (turn for turn in episode.turns if turn.tool)
    assert (turn.text, turn.is_error) == ("error: checker took longer than 0.3 s", True)


def test_limits_are_of_all_together_and_a_lost_model_ends_all(play: Play, script: Script) -> None:
    members = {"solver": Member(asks=["checker"]), "checker": Member()}
    plan = [call("ask_checker", question="?"), call("python", code="1"), call("python", code="2")]
    assert play(script(*plan), replace(team(members), max_turns=2), 4000).status == "max_turns"
    lost = play(script(*plan), team(members), 4000)
    assert lost.status == "infra_error" and "no more turns" in lost.error


def test_a_colleague_behind_an_endpoint_leaves_no_tokens_of_the_policy(play: Play, script: Script) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            message = {"role": "assistant", "content": "<answer>42, says the expert</answer>"}
            choice = {"message": message, "finish_reason": "stop", "token_ids": [1, 2, 3]}
            data = json.dumps({"choices": [choice], "usage": {"completion_tokens": 3}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        expert = Endpoint(model="expert", base_url=f"http://127.0.0.1:{server.server_port}/v1")
        members = {"solver": Member(asks=["expert"]), "expert": Member("Know.", tools=[], endpoint=expert)}
        policy = script(call("ask_expert", question="6*7?"), "<answer>42</answer>")
        episode = play(policy, team(members), 4000)
        server.shutdown()
    assert (episode.status, episode.answer, owners(episode)) == ("answered", "42", ["solver", "expert"])
    assert [message["content"] for message in asked[0]["messages"]] == [f"{CONFIG.system_prompt}\n\nKnow.", "6*7?"]
    assert episode.token_ids[episode.contexts[1].start :] == [1, 2, 3]
    assert sum(episode.mask) == sum(len(said.token_ids) for said in policy.said)
    assert episode.policy_version == 7


@pytest.mark.parametrize("way", ["drop", "summarise"])
def test_a_context_that_is_full_goes_on_in_a_shorter_one(
    chat: ChatFormat, play: Play, script: Script, way: str
) -> None:
    class Noting(ScriptedPolicy):
        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            is_asked = chat.decode(prompt_ids).endswith(f"{SUMMARISE}<|im_end|>\n<|im_start|>assistant\n")
            policy = ScriptedPolicy(chat, ["So far: 0 and 1."]) if is_asked else super()
            return await policy.generate(prompt_ids, sampling)

    calls = [call("python", code=f"print('{n}' * 120)") for n in range(5)]
    config = replace(CONFIG, context=way, max_turns=20, max_tokens=4000, turn_tokens=100)
    ends = play(script(*calls), replace(config, context="append"), 800)
    assert ends.status == "max_tokens"
    policy = Recording(Noting(chat, [*calls, "<answer>42</answer>"]))
    episode = play(policy, config, 800)
    assert (episode.status, episode.answer) == ("answered", "42")
    assert len(episode.contexts) > 1 and set(owners(episode)) == {"agent"}
    assert all(len(prompt) + sampling.max_tokens <= 800 for prompt, sampling in policy.asked)
    assert sum(episode.mask) == sum(len(said.token_ids) for said in policy.said)
    last = chat.decode(policy.asked[-1][0])
    assert last.count("left out here") == 1
    assert "Your first turns are left out here." in last and "000" not in last and "444" in last
    assert ("So far: 0 and 1." in last) == (way == "summarise")


def test_a_tool_that_no_server_brings_is_bad_input(play: Play, script: Script) -> None:
    with pytest.raises(InputError, match="no tool 'browse'; there are: "):
        play(script(), team({"solver": Member(tools=["browse"])}))


@pytest.mark.parametrize(
    ("limits", "status"),
    [({"max_turns": 1}, "max_turns"), ({"max_tokens": 5}, "max_tokens"), ({"episode_seconds": 0.5}, "timeout")],
)
def test_a_workflow_that_a_limit_cuts_gives_no_answer(
    chat: ChatFormat, play: Play, limits: dict[str, float], status: str
) -> None:
    class SlowWriter(ScriptedPolicy):
        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            await asyncio.sleep(60 if "Write." in chat.decode(prompt_ids) else 0)
            return await super().generate(prompt_ids, sampling)

    config = replace(
        team({"planner": Member("Plan."), "writer": Member("Write.")}, order=["planner", "writer"]), **limits
    )
    episode = play(SlowWriter(chat, ["<answer>the plan</answer>"]), config, 4000)
    assert (episode.status, episode.answer) == (status, None)


def test_a_guard_that_a_limit_cuts_does_not_object(play: Play, script: Script) -> None:
    members = {"solver": Member(guard="guard"), "guard": Member("Verify.")}
    look = "Let me check. " + call("python", code="6*7")
    episode = play(script("<answer>42</answer>", look, look), replace(team(members), max_turns=3), 4000)
    assert (episode.status, episode.answer) == ("answered", "42")


@pytest.mark.parametrize(
    ("verdict", "answer"),
    [
        ("accept", "1"),
        ("Accept.", "1"),
        ("**ACCEPT**: it is right", "1"),
        ("Acceptable form, but the value is wrong", "2"),
        ("I accept the form, but the value is wrong", "2"),
        ("Accepted forms are others", "2"),
    ],
)
def test_a_guard_accepts_with_one_word(play: Play, script: Script, verdict: str, answer: str) -> None:
    members = {"solver": Member(guard="guard"), "guard": Member("Verify.", tools=[])}
    policy = script("<answer>1</answer>", verdict, "<answer>2</answer>", "accept")
    assert play(policy, team(members), 4000).answer == answer


def test_what_is_cut_off_has_its_time_and_no_tokens(chat: ChatFormat, play: Play) -> None:
    """A model's turn and a tool's call, cut by a colleague's limit and by the episode's."""

    class Slow(ScriptedPolicy):
        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            await asyncio.sleep(60 if "Think." in chat.decode(prompt_ids) else 0)
            return await super().generate(prompt_ids, sampling)

    sleep = call("python", code="import time; time.sleep(30)")
    members = {
        "solver": Member(asks=["thinker", "worker"]),
        "thinker": Member("Think.", seconds=0.3),
        "worker": Member("Work.", tools=["python"]),
    }
    plan = [call("ask_thinker", question="?") + call("ask_worker", question="?"), sleep]
    policy = Recording(Slow(chat, plan))
    episode = play(policy, replace(team(members), episode_seconds=1.5), 4000)
    assert (episode.status, owners(episode)) == ("timeout", ["solver", "thinker", "worker"])
    cut = [(turn.context, turn.tool or turn.role) for turn in episode.turns if turn.is_error]
    assert cut == [(1, "assistant"), (0, "ask_thinker"), (2, "python"), (0, "ask_worker")]
    seconds = [turn.seconds for turn in episode.turns if turn.is_error]
    assert seconds[0] >= 0.3 and seconds[2] > 0.3 and episode.seconds["generate"] >= 0.3
    assert episode.seconds["tools"] == pytest.approx(seconds[2], abs=0.2)
    assert sum(episode.mask) == sum(len(said.token_ids) for said in policy.said)
    starts = [context.start for context in episode.contexts]
    assert not any(episode.mask[starts[1] : starts[2]])  # what the thinker did not finish is not there
    assert [(span.depth, span.name) for span in spans(episode)] == [
        (0, "t"),
        (1, "solver"),
        (2, "model"),
        (2, "ask_thinker"),
        (3, "thinker"),
        (4, "model"),
        (2, "ask_worker"),
        (3, "worker"),
        (4, "model"),
        (4, "python"),
    ]


def test_a_context_that_is_summarised_is_what_the_template_renders(chat: ChatFormat, play: Play) -> None:
    """Also where each turn is cut at its limit, behind its call."""

    class Cut(ScriptedPolicy):
        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            if SUMMARISE in chat.decode(prompt_ids):
                return await ScriptedPolicy(chat, ["So far."]).generate(prompt_ids, sampling)
            said = await super().generate(prompt_ids, sampling)
            return replace(said, token_ids=said.token_ids[:-1], logprobs=said.logprobs[:-1], finish_reason="length")

    calls = [call("python", code=f"print('{n}' * 120)") for n in range(5)]
    policy = Recording(Cut(chat, calls))
    episode = play(policy, replace(CONFIG, context="summarise", max_turns=4, max_tokens=4000, turn_tokens=100), 800)
    assert (episode.status, len(episode.contexts)) == ("max_turns", 2)
    (prompt,) = (text for text in (chat.decode(ids) for ids, _ in policy.asked) if text.count(SUMMARISE))
    messages = [{"role": "user", "content": "?"}]
    for n in range(prompt.count("</tool_response>")):
        messages += [{"role": "assistant", "content": calls[n]}, {"role": "tool", "content": f"{n}" * 120}]
    messages += [{"role": "user", "content": SUMMARISE}]
    rendered = chat.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    begins = rendered.index(calls[0])
    assert begins > 0 and prompt == chat.decode(policy.asked[0][0]) + rendered[begins:]
