"""Several agents with one policy, in a real environment: who says what, and whose tokens are whose."""

import asyncio
import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
from players import CONFIG, TASK, Recording, call, owners, team

from aworld.agents.chat import ChatFormat
from aworld.agents.protocols import Completion, Observation, Sampling
from aworld.agents.record import UNFINISHED, Record
from aworld.agents.scripted import ScriptedPolicy
from aworld.agents.team import Team
from aworld.agents.tokens import PolicyModel
from aworld.config import Endpoint, Member
from aworld.errors import InputError
from aworld.evaluation.trace import spans
from aworld.trajectories.arrays import from_episodes
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit

Play = Callable[..., Episode]
Script = Callable[..., Recording]


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


class Choir(ScriptedPolicy):
    """Each agent says its own plan; two that are asked in one turn speak only once both were asked.

    `slow` is a word of the prompt of the one that takes longer.
    """

    def __init__(self, chat: ChatFormat, plans: dict[str, list[str]], slow: str):
        self._chat, self._slow, self._both = chat, slow, asyncio.Barrier(2)
        self._plans = {name: ScriptedPolicy(chat, plan) for name, plan in plans.items()}

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
        prompt = self._chat.decode(prompt_ids)
        name = next(name for name in self._plans if f"You are {name}." in prompt)
        if name != "solver":
            await self._both.wait()
            await asyncio.sleep(0.2 if name == self._slow else 0)
        return await self._plans[name].generate(prompt_ids, sampling)


COUPLE = {
    "solver": Member("You are solver.", asks=["left", "right"]),
    "left": Member("You are left."),
    "right": Member("You are right."),
}
BOTH = call("ask_left", question="?") + call("ask_right", question="?")


def test_those_who_are_asked_in_one_turn_work_at_the_same_time_and_speed_changes_nothing(
    chat: ChatFormat, play: Play
) -> None:
    plans = {
        "solver": [BOTH, "<answer>LR</answer>"],
        "left": [call("python", code="1"), "<answer>L</answer>"],
        "right": [call("python", code="2"), "<answer>R</answer>"],
    }
    policies = [Recording(Choir(chat, plans, slow)) for slow in ("left", "right")]
    one, other = (play(policy, team(COUPLE), 4000) for policy in policies)
    assert (one.status, one.answer, owners(one)) == ("answered", "LR", ["solver", "left", "right"])
    assert (one.token_ids, one.mask, one.logprobs, one.contexts) == (
        *(other.token_ids, other.mask, other.logprobs),
        other.contexts,
    )
    seeds = [{(tuple(prompt), sampling.seed) for prompt, sampling in policy.asked} for policy in policies]
    assert seeds[0] == seeds[1] and len(seeds[0]) == 6
    assert [context.asked_by for context in one.contexts] == [None, 0, 0]
    for episode, first in ((one, "ask_right"), (other, "ask_left")):
        assert next(turn.tool for turn in episode.turns if turn.tool not in (None, "python")) == first
        inside = [(span.depth, span.name) for span in spans(episode) if span.kind != "model"]
        assert sorted(inside[2:]) == sorted(
            [(2, "ask_left"), (3, "left"), (4, "python"), (2, "ask_right"), (3, "right"), (4, "python")]
        )
        for name in ("left", "right"):
            assert inside[inside.index((2, f"ask_{name}")) + 1] == (3, name)


def test_a_failure_of_one_ends_those_who_work_at_the_same_time(chat: ChatFormat, play: Play) -> None:
    plans = {"solver": [BOTH], "left": [], "right": ["<answer>R</answer>"]}  # left's script has no turn
    episode = play(Choir(chat, plans, slow="right"), team(COUPLE), 4000)
    assert episode.status == "infra_error" and "no more turns" in episode.error
    texts = {turn.tool: turn.text for turn in episode.turns if turn.tool}
    assert texts["ask_right"] == UNFINISHED and texts["ask_left"].startswith("error: the script has no more turns")


def test_calls_that_share_no_state_run_at_the_same_time_and_the_others_alone(chat: ChatFormat, script: Script) -> None:
    class World:
        """`look` returns once two look at the same time."""

        independent = ("look",)

        def __init__(self) -> None:
            self.tools = [{"type": "function", "function": {"name": n, "parameters": {}}} for n in ("look", "touch")]
            self.both, self.made, self.at_work = asyncio.Barrier(2), [], 0

        async def call(self, name: str, arguments: dict[str, Any]) -> Observation:
            self.made.append(name)
            self.at_work += 1
            assert name == "look" or self.at_work == 1
            await (self.both.wait() if name == "look" else asyncio.sleep(0.01))
            self.at_work -= 1
            return Observation(f"{name} {arguments['n']}", False, 0.0)

    calls = [call(name, n=str(n)) for n, name in enumerate(["touch", "look", "look", "touch", "look", "look"])]
    policy, world = script("".join(calls), "<answer>42</answer>"), World()
    config = replace(CONFIG, max_turns=12)
    played = Team(config, PolicyModel(policy, chat, config, 4000)).run(TASK, world, round=1, attempt=0, seed=3)
    episode = asyncio.run(asyncio.wait_for(played, 20))
    assert episode.answer == "42" and world.made == ["touch", "look", "look", "touch", "look", "look"]
    read = re.findall(r"(?:touch|look) \d", chat.decode(policy.asked[1][0]))
    assert read == ["touch 0", "look 1", "look 2", "touch 3", "look 4", "look 5"]


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


def test_a_guard_reads_what_the_handoff_said(chat: ChatFormat, play: Play, script: Script) -> None:
    members = {"clerk": Member(hands_to=["solver"]), "solver": Member(guard="guard"), "guard": Member("Verify.")}
    policy = script(call("hand_to_solver", notes="round it up"), "<answer>42</answer>", "accept")
    assert play(policy, team(members), 4000).answer == "42"
    prompt = chat.decode(policy.asked[2][0])
    assert "Proposed answer: 42" in prompt and "says: round it up" in prompt


def test_agents_that_stall_at_the_same_time_count_no_longer_than_the_episode() -> None:
    record = Record(CONFIG, 0)
    record.seconds["stalled"] = 60.0
    seconds = record.all_seconds()
    assert seconds["stalled"] == seconds["total"] < 60.0


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


def test_a_tool_that_no_server_brings_is_bad_input(play: Play, script: Script) -> None:
    with pytest.raises(InputError, match="no tool 'browse'; there are: "):
        play(script(), team({"solver": Member(tools=["browse"])}))


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
