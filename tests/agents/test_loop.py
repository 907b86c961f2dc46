import asyncio
from dataclasses import replace

import pytest
from players import CONFIG, TASK

from aworld.agents.loop import LAST, NUDGE
from aworld.agents.protocols import Completion, Sampling
from aworld.agents.team import question_text
from aworld.errors import InfrastructureError, InputError

pytestmark = pytest.mark.unit

CALL = '<tool_call>\n{"name": "python", "arguments": {"code": "6*7"}}\n</tool_call>'


def test_tokens_are_only_ever_appended_and_the_mask_marks_what_was_sampled(chat, play, script):
    policy = script(CALL, "nonsense <tool_call>{</tool_call>", "<answer>42</answer>")
    episode = play(policy)
    assert (episode.status, episode.answer, episode.policy_version) == ("answered", "42", 7)
    for (prompt, _), said in zip(policy.asked, policy.said, strict=True):
        assert episode.token_ids[: len(prompt)] == prompt
        assert episode.token_ids[len(prompt) : len(prompt) + len(said.token_ids)] == said.token_ids
        assert not any(episode.mask[: len(policy.asked[0][0])])
        assert all(episode.mask[len(prompt) : len(prompt) + len(said.token_ids)])
    assert sum(episode.mask) == sum(len(said.token_ids) for said in policy.said)
    assert len(episode.token_ids) == len(episode.mask) == len(episode.logprobs)
    assert [p for p, m in zip(episode.logprobs, episode.mask, strict=True) if m] == [-0.5] * sum(episode.mask)
    assert not any(p for p, m in zip(episode.logprobs, episode.mask, strict=True) if not m)
    assert [turn.role for turn in episode.turns] == ["prompt", "assistant", "tool", "assistant", "tool", "assistant"]
    assert episode.turns[2].text == "42" and episode.turns[4].is_error


def test_every_turn_has_its_own_seed_and_the_same_one_again(chat, play, script):
    plans = [script(CALL, CALL, "<answer>42</answer>") for _ in range(2)]
    for policy in plans:
        play(policy)
    one, other = ([sampling.seed for _, sampling in policy.asked] for policy in plans)
    assert one == other
    assert len(set(one)) == 3


def test_a_malformed_call_is_answered_by_an_error_and_the_episode_goes_on(chat, play, script):
    policy = script("<tool_call>{]</tool_call>", "<answer>1</answer>")
    episode = play(policy)
    assert episode.status == "answered"
    assert "error: the tool call is not valid JSON" in chat.decode(policy.asked[1][0])


def test_an_unknown_tool_and_wrong_arguments_are_errors_to_read(chat, play, script):
    unknown = '<tool_call>{"name": "nope", "arguments": {}}</tool_call>'
    wrong = '<tool_call>{"name": "python", "arguments": {"kode": "1"}}</tool_call>'
    episode = play(script(unknown, wrong, "<answer>1</answer>"))
    assert [turn.is_error for turn in episode.turns if turn.role == "tool"] == [True, True]
    assert episode.status == "answered"


@pytest.mark.parametrize(
    ("plan", "changes", "context", "status"),
    [
        (["no call, no answer"], {}, 1000, "no_answer"),
        ([CALL] * 9, {"max_turns": 3}, 1000, "max_turns"),
        ([CALL] * 9, {"max_tokens": 60}, 1000, "max_tokens"),
        ([CALL] * 9, {}, 150, "max_tokens"),
        ([CALL] * 9, {"max_repeats": 2}, 1000, "repeated"),
        ([CALL], {}, 1000, "infra_error"),
    ],
)
def test_how_episodes_end(chat, play, script, plan, changes, context, status):
    episode = play(script(*plan), replace(CONFIG, **changes), context)
    assert episode.status == status
    assert episode.answer is None
    assert bool(episode.error) == (status == "infra_error")


def test_no_turn_is_asked_for_more_than_the_episode_and_the_context_leave(chat, play, script):
    policy = script(*[CALL] * 9)
    play(policy, replace(CONFIG, max_tokens=60, turn_tokens=50, max_turns=9), 1000)
    sampled = 0
    for (_, sampling), said in zip(policy.asked, policy.said, strict=True):
        assert sampling.max_tokens == min(50, 60 - sampled)
        sampled += len(said.token_ids)


def test_a_policy_that_takes_too_long_is_a_timeout(chat, play, script):
    class Slow:
        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            await asyncio.sleep(60)
            raise InfrastructureError("never")

    episode = play(Slow(), replace(CONFIG, episode_seconds=0.3))
    assert (episode.status, episode.mask) == ("timeout", [0] * len(episode.token_ids))


@pytest.mark.parametrize("hangs", [True, False])
def test_time_that_the_policy_spent_is_told_from_time_that_its_engine_stalled(script, play, hangs):
    class Paced:
        def __init__(self):
            self.policy, self.turns = script(*[CALL] * 40), 0

        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            self.turns += 1
            await asyncio.sleep(60 if hangs and self.turns == 3 else 0.1)
            return await self.policy.generate(prompt_ids, sampling)

    config = replace(CONFIG, episode_seconds=4.0, turn_tokens=40, max_turns=100, max_tokens=9000, max_repeats=99)
    episode = play(Paced(), config, 9000)
    assert (episode.status, any(episode.mask)) == ("timeout", True)
    assert (episode.seconds["stalled"] > 1.0) == hangs
    assert hangs or episode.seconds["stalled"] == 0.0


def test_only_the_same_call_in_a_row_is_a_repetition(chat, play, script):
    other = CALL.replace("6*7", "7*6")
    policy = script(CALL, other, CALL, CALL, other, "<answer>42</answer>")
    assert play(policy, replace(CONFIG, max_repeats=2, max_turns=9)).status == "answered"
    policy = script(CALL, other, other, other, other)
    episode = play(policy, replace(CONFIG, max_repeats=2, max_turns=9))
    assert (episode.status, [turn.tool for turn in episode.turns].count("python")) == ("repeated", 3)


def test_a_turn_that_repeats_a_call_stops_at_the_limit(chat, play, script):
    episode = play(script(CALL * 50), replace(CONFIG, max_repeats=3, turn_tokens=2000, max_tokens=4000), 9000)
    assert (episode.status, [turn.tool for turn in episode.turns].count("python")) == ("repeated", 3)


def test_a_malformed_call_repeats_by_its_text(chat, play, script):
    wrong = ["<tool_call>{]</tool_call>", "<tool_call>{ ]</tool_call>"]
    config = replace(CONFIG, max_repeats=2, max_turns=9)
    assert play(script(*wrong * 3, "<answer>1</answer>"), config).status == "answered"
    episode = play(script(wrong[0], *[wrong[1]] * 5), config)
    assert (episode.status, [turn.role for turn in episode.turns].count("tool")) == ("repeated", 3)


def test_a_turn_makes_no_more_calls_than_an_episode_may_have_turns(chat, play, script):
    calls = "".join(CALL.replace("6*7", f"6*{n}") for n in range(4))
    policy = script(calls, "<answer>42</answer>")
    episode = play(policy, replace(CONFIG, max_turns=3, turn_tokens=400, max_tokens=900), 2000)
    said = [turn.text for turn in episode.turns if turn.tool]
    assert (episode.status, said) == ("answered", ["0", "6", "12", "error: not run; a turn may make 3 calls"])
    assert said[3] in chat.decode(policy.asked[1][0])


def test_what_fails_has_its_time_too(chat, play):
    class Broken:
        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            await asyncio.sleep(0.2)
            raise InfrastructureError("gone")

    episode = play(Broken())
    assert episode.status == "infra_error" and not any(episode.mask)
    turn = episode.turns[-1]
    assert (turn.role, turn.is_error) == ("assistant", True)
    assert turn.seconds >= 0.2 and episode.seconds["generate"] == turn.seconds


def test_turns_say_when_they_began(chat, play, script):
    slow = CALL.replace("6*7", "import time; time.sleep(0.3)")
    episode = play(script(slow, CALL, "<answer>42</answer>"))
    began = [turn.began for turn in episode.turns]
    assert began == sorted(began) and began[0] == 0.0
    assert began[3] - began[2] >= 0.3
    assert all(turn.began + turn.seconds <= episode.seconds["total"] for turn in episode.turns)


def test_an_attachment_that_the_question_does_not_name_is_named(tmp_path):
    files = (tmp_path / "table.csv", tmp_path / "photo.png")
    assert question_text(replace(TASK, files=files)) == "What is 6*7?\n\nAttached: table.csv, photo.png"
    named = replace(TASK, question="What is in table.csv and photo.png?", files=files)
    assert question_text(named) == named.question


LASTING = replace(CONFIG, last_turn="answer")


@pytest.mark.parametrize(
    ("changes", "context", "status"),
    [({"max_turns": 3}, 2000, "max_turns"), ({"max_tokens": 60}, 2000, "max_tokens"), ({}, 900, "max_tokens")],
    ids=["turns", "tokens", "context"],
)
def test_at_a_limit_the_agent_may_give_its_answer(chat, play, script, changes, context, status):
    class Asked:
        """Calls until it is told that this was its last turn with tools."""

        def __init__(self) -> None:
            self.calling, self.answering = script(*[CALL] * 40), script("<answer>42</answer>")

        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            is_last = chat.decode(prompt_ids).endswith(f"{LAST}<|im_end|>" + chat.decode(chat.turn_opening))
            policy = self.answering if is_last else self.calling
            return await policy.generate(prompt_ids, sampling)

    config = replace(LASTING, **{"max_turns": 40, "max_repeats": 40, "max_tokens": 4000} | changes)
    episode = play(Asked(), config, context)
    assert (episode.status, episode.answer) == (status, "42")
    roles = [turn.role for turn in episode.turns]
    assert roles.count("tool") > 1 and roles[-2:] == ["tool", "assistant"]
    assert len(episode.token_ids) <= context and sum(episode.mask) == episode.sampling["completion_tokens"]
    assert play(Asked(), replace(config, last_turn="none"), context).answer is None


def test_in_the_last_turn_nothing_is_called(play, script):
    episode = play(script(*[CALL] * 4), replace(LASTING, max_turns=3))
    assert (episode.status, episode.answer) == ("max_turns", None)
    assert [turn.role for turn in episode.turns].count("tool") == 3


def test_a_turn_without_call_and_answer_is_nudged_once(chat, play, script):
    policy = script("It is 42.", CALL, "<answer>42</answer>")
    assert play(policy, LASTING).answer == "42"
    assert NUDGE in chat.decode(policy.asked[1][0])
    episode = play(script("It is 42.", CALL, "It is 42."), LASTING)
    assert (episode.status, [turn.role for turn in episode.turns].count("assistant")) == ("no_answer", 3)
    assert play(script("It is 42."), CONFIG).status == "no_answer"


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(play, script):
    policy = script("<answer>42</answer>")
    play(policy)
    tokens = len(policy.asked[0][0])
    with pytest.raises(InputError, match=f"question take {tokens} tokens, and the context holds {tokens}; raise"):
        play(script("<answer>42</answer>"), CONFIG, tokens)
    assert play(script(CALL), CONFIG, tokens + 1).status != "infra_error"


def test_a_turn_that_ends_otherwise_is_closed_for_the_policy(chat, play):
    """A base model ends its turns with <|endoftext|>: sampled, it stays, and what the template wants follows."""
    end_of_text = chat.tokenizer.convert_tokens_to_ids("<|endoftext|>")

    class Base:
        def __init__(self) -> None:
            self.turns = iter([CALL, "<answer>42</answer>"])

        async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
            ids = [*chat.assistant(next(self.turns))[:-1], end_of_text]
            return Completion(ids, [-0.5] * len(ids), "stop", 7)

    episode = play(Base())
    assert (episode.status, episode.answer) == ("answered", "42")
    assert f"{CALL}<|endoftext|><|im_end|>\n<|im_start|>user\n<tool_response>" in chat.decode(episode.token_ids)
    at = episode.token_ids.index(end_of_text)
    assert episode.mask[at : at + 2] == [1, 0]
