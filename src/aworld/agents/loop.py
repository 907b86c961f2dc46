"""An agent: ask its model, run what it calls, give it the results, until it answers or a limit is reached."""

import asyncio
import re
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import Environment, Observation, Speaker, ToolCall, Utterance
from aworld.agents.record import UNFINISHED, Opened, Record
from aworld.agents.roles import ASK, HAND_TO, members, offered, prompt
from aworld.agents.work import Handoff, Outcome, Question, Work, turn_seed
from aworld.errors import InputError
from aworld.trajectories.episode import Status, Turn

OBJECTIONS = 2  # of a guard to one agent's answers; the answer after that stands
ACCEPTS = re.compile(r"[\W_]*accept\b", re.IGNORECASE)
NUDGE = "You have neither called a tool nor given a final answer. Go on, and give it in the form that you were told."
LAST = "This was your last turn with tools. Give your final answer now, in the form that you were told."
LAST_SHARE = 8  # at most this part of a context is kept free for the last turn
DROPPED = "[Your first turns are left out here.]"
SUMMARISE = "Your context is nearly full. Write down all that you have found out so far and what is left to do."
SUMMARY = "[Your first turns are left out here. You noted:]\n"


async def ask(agents: Mapping[str, "Agent"], name: str, question: Question) -> Outcome:
    """How the agent, or the one that it hands the question over to, ended with it."""
    while True:
        ended = await agents[name].work(question)
        if isinstance(ended, Outcome):
            return ended
        name, question = ended.to, ended.question


class Agent:
    """One agent of an episode. `agents` are all of them by name; what is wrong with a call its model reads."""

    def __init__(
        self,
        name: str,
        config: schema.Agent,
        speaker: Speaker,
        environment: Environment,
        record: Record,
        agents: Mapping[str, "Agent"],
    ):
        self.name, self.config, self.record = name, config, record
        self._member = members(config)[name]
        self._speaker, self._environment, self._agents = speaker, environment, agents
        self._tools = offered(config, name, environment.tools)
        self._names = [tool["function"]["name"] for tool in self._tools]

    async def work(self, question: Question) -> Outcome | Handoff:
        """Work on a question until there is an answer, a limit is reached, or another agent goes on with it.

        Raises:
            InfrastructureError: a model or the environment is gone.
            InputError: the first prompt does not fit, or an endpoint refuses what it is asked.
        """
        work = self._begin(question)
        while True:
            if self.record.spoken >= self.config.max_turns:
                return await self._last_turn(work, "max_turns")
            await self._make_room(work)
            if (limit := self._limit(work)) < 1:
                return await self._last_turn(work, "max_tokens")
            said = await self._say(work, limit)
            if said.is_error:
                return work.outcome("no_answer" if said.ended else "max_tokens")
            if not said.ended and not said.calls:
                return await self._last_turn(work, "max_tokens")
            if said.answer is not None:
                objection = await self._objection(work, said.answer)
                if not objection:
                    return work.outcome("answered", said.answer)
                work.talk.told(objection)
            elif said.calls:
                if ended := await self._run(work, said.calls):
                    return ended
            elif work.is_nudged or not self._has_last_turn(work):
                return work.outcome("no_answer")
            else:
                work.is_nudged = True
                work.talk.told(NUDGE)

    def _begin(self, question: Question) -> Work:
        text = f"{question.text}\n\n{question.notes}" if question.notes else question.text
        talk = self._speaker.begin(prompt(self.config, self._member), text, self._tools)
        opened = Opened(self.name, talk, question.place, question.asked_by)
        return Work(question, talk, self.record.begin(opened))

    async def _make_room(self, work: Work) -> None:
        """
        Raises:
            InputError: the first prompt of the episode fills the context.
        """
        c, tokens = self.config, len(work.talk.token_ids)
        if not self.record.spoken and tokens >= work.talk.context:
            raise InputError(
                f"system prompt, tools and question take {tokens} tokens, and the context holds {work.talk.context}; "
                f"raise model.shard.max_model_len, give fewer tools, or leave the task out: "
                f"{work.question.text[:80]!r}"
            )
        if c.context != "append" and work.talk.room < c.turn_tokens * (3 if c.context == "summarise" else 1):
            await self._shorten(work)

    async def _shorten(self, work: Work) -> None:
        """Go on in a new context, without the first turns."""
        note = DROPPED
        if work.talk.shortened(note) is None:
            return
        if self.config.context == "summarise" and self.record.sampled < self.config.max_tokens:
            work.talk.told(SUMMARISE, aside=True)
            if (limit := self._limit(work)) > 0:
                said = await self._say(work, limit)
                note = SUMMARY + said.said if said.said else DROPPED
        shorter = work.talk.shortened(note)
        if shorter is not None:
            work.talk, question = shorter, work.question
            opened = Opened(self.name, shorter, (*question.place, work.turns), question.asked_by)
            work.context = self.record.begin(opened)

    def _limit(self, work: Work) -> int:
        """Tokens that the next turn may have; the last one finds some room in the context."""
        c, room = self.config, work.talk.room
        if c.context == "append" and self._has_last_turn(work):
            room -= min(c.turn_tokens, work.talk.context // LAST_SHARE)
        return min(c.turn_tokens, c.max_tokens - self.record.sampled, room)

    def _has_last_turn(self, work: Work) -> bool:
        return work.question.is_last and self.config.last_turn == "answer"

    async def _last_turn(self, work: Work, limit: Status) -> Outcome:
        """At a limit: end, after one turn beyond it in which nothing but an answer counts."""
        answer = None
        if self._has_last_turn(work) and work.talk.room > 0:
            work.talk.told(LAST)
            if (tokens := min(self.config.turn_tokens, work.talk.room)) > 0:
                said = await self._say(work, tokens)
                answer = said.answer if said.ended else None
        return work.outcome(limit, answer)

    async def _say(self, work: Work, limit: int) -> Utterance:
        record, began = self.record, self.record.now
        said = Utterance(UNFINISHED, "", (), None, False, 0, is_error=True)
        record.spoken += 1  # now: another agent may be about to speak as well
        try:
            said = await work.talk.say(limit, turn_seed(record.seed, work.question.place, work.turns))
        except BaseException:
            record.spoken -= 1
            raise
        finally:  # also of a turn that is cut off: it took its time, though none of its tokens are there
            seconds = record.now - began
            if said.is_error:
                record.seconds["stalled"] += max(0.0, seconds - record.longest_turn(limit))
            record.seconds["generate"] += seconds
            record.turns.append(Turn("assistant", said.text, None, None, said.is_error, seconds, began, work.context))
        record.sampled += said.tokens
        work.turns += 1
        work.said = said.said
        return said

    async def _objection(self, work: Work, answer: str) -> str:
        """What the guard has against an answer; empty: nothing. A guard that did not get to an end keeps nobody."""
        guard = self._member.guard
        if not guard or work.objections == OBJECTIONS:
            return ""
        work.call = ToolCall(ASK + guard, {"answer": answer})
        with self.record.calling(work.context, work.call) as noted:
            outcome = await self._ask(work, 0, guard, f"{work.question.text}\n\nProposed answer: {answer}")
            noted.seen = self._observed(guard, outcome)
        verdict, has_ended = noted.seen, outcome.status in ("answered", "no_answer")
        if not has_ended or verdict.is_error or ACCEPTS.match(verdict.text):
            return ""
        work.objections += 1
        return f"{guard} objects: {verdict.text}"

    async def _run(self, work: Work, calls: tuple[ToolCall, ...]) -> Outcome | Handoff | None:
        """Run a turn's calls, and give the results to the model; an end, where one of the calls is one.

        Those that are independent of each other run at the same time.
        """
        ended: Outcome | Handoff | None = None
        made = []
        for number, call in enumerate(calls):
            work.repeats = work.repeats + 1 if call == work.call else 1
            work.call = call
            if work.repeats > self.config.max_repeats:
                ended = work.outcome("repeated")
            elif self._called(call, HAND_TO, self._member.hands_to) and not self._refusal(number, call):
                ended = self._handoff(work, number, call)
            if ended:
                break
            made.append((number, call))
        results: list[str] = []
        for group in self._groups(made):
            results += await _together([self._call(work, number, call) for number, call in group])
        if isinstance(ended, Handoff):
            with self.record.calling(work.context, calls[len(made)]) as noted:
                noted.seen = Observation(f"{ended.to} goes on with the question", False, 0.0)
        if ended is None:
            work.talk.hear(results)
        return ended

    def _groups(self, calls: list[tuple[int, ToolCall]]) -> Iterator[list[tuple[int, ToolCall]]]:
        """The calls in their order: neighbours that are independent together, each other one alone."""
        group: list[tuple[int, ToolCall]] = []
        for number, call in calls:
            if not self._is_independent(call):
                if group:
                    yield group
                yield [(number, call)]
                group = []
            else:
                group.append((number, call))
        if group:
            yield group

    def _is_independent(self, call: ToolCall) -> bool:
        return bool(self._called(call, ASK, self._member.asks)) or call.name in self._environment.independent

    def _handoff(self, work: Work, number: int, call: ToolCall) -> Handoff:
        notes = f"{self.name} leaves this to you, and says: {call.arguments.get('notes', '')}"
        place = (*work.question.place, work.turns - 1, number)
        return Handoff(
            self._called(call, HAND_TO, self._member.hands_to), replace(work.question, place=place, notes=notes)
        )

    async def _call(self, work: Work, number: int, call: ToolCall) -> str:
        """What the model reads of a call."""
        with self.record.calling(work.context, call) as noted:
            if reason := self._refusal(number, call):
                noted.seen = Observation(f"error: {reason}", True, 0.0)
            elif other := self._called(call, ASK, self._member.asks):
                outcome = await self._ask(work, number, other, str(call.arguments.get("question", "")))
                noted.seen = self._observed(other, outcome)
            else:
                noted.seen = await self._use(call)
        return noted.seen.text

    def _refusal(self, number: int, call: ToolCall) -> str:
        """Why a call is not made; empty when it is."""
        if call.error:
            return call.error
        if number >= self.config.max_turns:  # what may take so many turns may take one
            return f"not run; a turn may make {self.config.max_turns} calls"
        if call.name not in self._names:
            return f"no tool {call.name[:100]!r}; there are: {', '.join(self._names)}"
        return ""

    def _called(self, call: ToolCall, how: str, others: list[str]) -> str:
        """Which of the others a call asks, or hands over to; empty: none."""
        other = call.name.removeprefix(how)
        return other if other != call.name and other in others else ""

    async def _ask(self, work: Work, number: int, other: str, text: str) -> Outcome:
        """How another agent ended with a question; it may have a limit of time of its own."""
        question = Question(text, (*work.question.place, work.turns - 1, number), work.context)
        limit = asyncio.timeout(members(self.config)[other].seconds or None)
        try:
            async with limit:
                return await ask(self._agents, other, question)
        except TimeoutError:
            if not limit.expired():
                raise
            return Outcome("timeout", None, "")

    def _observed(self, other: str, outcome: Outcome) -> Observation:
        given = outcome.answer if outcome.answer is not None else outcome.said
        if outcome.status == "timeout":
            reason = f"{other} took longer than {members(self.config)[other].seconds:g} s"
        else:
            reason = f"{other} gave no answer ({outcome.status})"
        return Observation(given or f"error: {reason}", not given, 0.0)

    async def _use(self, call: ToolCall) -> Observation:
        shared = call.name not in self._environment.independent
        async with self.record.sandbox if shared else nullcontext():
            began = self.record.now
            try:
                return await self._environment.call(call.name, call.arguments)
            finally:  # also of a call that is cut off
                self.record.seconds["tools"] += self.record.now - began


async def _together(work: list[Coroutine[Any, Any, str]]) -> list[str]:
    """The results of all, in their order. The first that fails ends the others, and its failure is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
