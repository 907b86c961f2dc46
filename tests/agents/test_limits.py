"""Several agents at a limit: of the episode, of one of them, of a context."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from players import CONFIG, Recording, call, owners, team

from aworld.agents.chat import ChatFormat
from aworld.agents.loop import SUMMARISE
from aworld.agents.protocols import Completion, Sampling
from aworld.agents.scripted import ScriptedPolicy
from aworld.config import Member
from aworld.evaluation.trace import spans
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.unit

Play = Callable[..., Episode]
Script = Callable[..., Recording]


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


def test_only_who_answers_the_user_has_a_last_turn(play: Play, script: Script) -> None:
    members = {"solver": Member(asks=["checker"]), "checker": Member()}
    policy = script(call("ask_checker", question="?"), call("python", code="6*7"), "<answer>42</answer>")
    episode = play(policy, replace(team(members), max_turns=2, last_turn="answer"), 4000)
    assert (episode.status, episode.answer, owners(episode)) == ("max_turns", "42", ["solver", "checker"])
    (seen,) = (turn.text for turn in episode.turns if turn.tool == "ask_checker")
    assert seen == "error: checker gave no answer (max_turns)"
    planned = replace(team({"planner": Member(), "writer": Member()}, order=["planner", "writer"]), last_turn="answer")
    plan = script("<answer>a plan</answer>", "no answer", "<answer>42</answer>")
    assert play(plan, replace(planned, max_turns=1), 4000).answer is None
    plan = script("a plan", "<answer>42</answer>")  # what comes before the answer needs no form
    assert play(plan, planned, 4000).answer == "42"


def test_a_guard_that_a_limit_cuts_does_not_object(play: Play, script: Script) -> None:
    members = {"solver": Member(guard="guard"), "guard": Member("Verify.")}
    look = "Let me check. " + call("python", code="6*7")
    episode = play(script("<answer>42</answer>", look, look), replace(team(members), max_turns=3), 4000)
    assert (episode.status, episode.answer) == ("answered", "42")


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
    episode = play(policy, replace(team(members), episode_seconds=4), 4000)
    assert (episode.status, owners(episode)) == ("timeout", ["solver", "thinker", "worker"])
    cut = [(turn.context, turn.tool or turn.role) for turn in episode.turns if turn.is_error]
    assert cut == [(1, "assistant"), (0, "ask_thinker"), (2, "python"), (0, "ask_worker")]
    seconds = [turn.seconds for turn in episode.turns if turn.is_error]
    assert seconds[0] >= 0.25 and seconds[2] > 0.3 and episode.seconds["generate"] >= 0.25  # the limit began first
    assert episode.seconds["tools"] == pytest.approx(seconds[2], abs=1)
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
