"""Several agents with one policy, in a real environment: who says what, and whose tokens are whose."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from players import CONFIG, Recording, call, owners, team

from aworld.agents.chat import ChatFormat
from aworld.config import Endpoint, Member
from aworld.errors import InputError
from aworld.trajectories.episode import Episode
from aworld.trajectories.file import from_episodes

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
