"""An agent: ask its model, run what it calls, give it the results, until it answers or a limit is reached."""

import asyncio
import re
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from aworld import config as schema
from aworld.agents.protocols import AssistantMessage, ChatModel, Environment, Observation, ToolCall
from aworld.agents.record import OpenedContext, Record
from aworld.agents.roles import ASK, HAND_TO, members, offered, prompt
from aworld.agents.work import Handoff, Outcome, Question, Work, turn_seed
from aworld.errors import InputError
from aworld.trajectories.episode import Status

OBJECTIONS = 2  # of a guard to one agent's answers; the answer after that stands
ACCEPTS = re.compile(r"[\W_]*accept\b", re.IGNORECASE)
NUDGE = "You have neither called a tool nor given a final answer. Go on, and give it in the form that you were told."
LAST = "This was your last turn with tools. Give your final answer now, in the form that you were told."
LAST_TURN_SHARE = 1 / 8  # of a context, at most, that is reserved for the last turn
DROPPED = "[Your first turns are left out here.]"
SUMMARISE = "Your context is nearly full. Write down all that you have found out so far and what is left to do."
SUMMARY = "[Your first turns are left out here. You noted:]\n"


async def ask(agents: Mapping[str, "Agent"], name: str, question: Question) -> Outcome:
    """The outcome of a question that agent `name` is asked. It may hand the question over to another agent."""
    while True:
        ended = await agents[name].work(question)
        if isinstance(ended, Outcome):
            return ended
        name, question = ended.to, ended.question


class Agent:
    """One agent of an episode.

    Args:
        agents: all agents of the episode, by name.
    """

    def __init__(
        self,
        name: str,
        config: schema.Agent,
        model: ChatModel,
        environment: Environment,
        record: Record,
        agents: Mapping[str, "Agent"],
    ):
        self.name, self.config, self.record = name, config, record
        self._member = members(config)[name]
        self._model, self._environment, self._agents = model, environment, agents
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
            if self.record.model_turns >= self.config.max_turns:
                return await self._last_turn(work, "max_turns")
            await self._make_room(work)
            if (limit := self._limit(work)) < 1:
                return await self._last_turn(work, "max_tokens")
            message = await self._generate(work, limit)
            if message.is_error:  # an endpoint refused it; `ended` is false where it was too long
                return work.outcome("no_answer" if message.ended else "max_tokens")
            if not message.ended and not message.calls:
                return await self._last_turn(work, "max_tokens")
            if message.answer is not None:
                objection = await self._objection(work, message.answer)
                if not objection:
                    return work.outcome("answered", message.answer)
                work.chat.add_user(objection)
            elif message.calls:
                if end := await self._make_calls(work, message.calls):
                    return end
            elif work.is_nudged or not self._has_last_turn(work):
                return work.outcome("no_answer")
            else:
                work.is_nudged = True
                work.chat.add_user(NUDGE)

    def _begin(self, question: Question) -> Work:
        chat = self._model.begin(prompt(self.config, self._member), question.with_notes, self._tools)
        opened = OpenedContext(self.name, chat, question.place, question.asked_by)
        return Work(question, chat, self.record.open_context(opened))

    async def _make_room(self, work: Work) -> None:
        """
        Raises:
            InputError: the first prompt of the episode fills the context.
        """
        c, tokens = self.config, len(work.chat.token_ids)
        if not self.record.model_turns and tokens >= work.chat.context:
            raise InputError(
                f"system prompt, tools and question take {tokens} tokens, and the context holds {work.chat.context}; "
                f"raise model.shard.max_model_len, give fewer tools, or leave the task out: "
                f"{work.question.text[:80]!r}"
            )
        if c.context != "append" and work.chat.room < c.turn_tokens * (3 if c.context == "summarise" else 1):
            await self._shorten(work)

    async def _shorten(self, work: Work) -> None:
        """Go on in a new context, without the first turns."""
        note = DROPPED
        if work.chat.shortened(note) is None:
            return
        if self.config.context == "summarise" and self.record.sampled < self.config.max_tokens:
            work.chat.add_user(SUMMARISE, aside=True)
            if (limit := self._limit(work)) > 0:
                message = await self._generate(work, limit)
                note = SUMMARY + message.content if message.content else DROPPED
        shorter = work.chat.shortened(note)
        if shorter is not None:
            work.chat, question = shorter, work.question
            opened = OpenedContext(self.name, shorter, (*question.place, work.turns), question.asked_by)
            work.context = self.record.open_context(opened)

    def _limit(self, work: Work) -> int:
        """The token limit of the next turn. Room for the last turn stays reserved."""
        c, room = self.config, work.chat.room
        if c.context == "append" and self._has_last_turn(work):
            room -= min(c.turn_tokens, int(work.chat.context * LAST_TURN_SHARE))
        return min(c.turn_tokens, c.max_tokens - self.record.sampled, room)

    def _has_last_turn(self, work: Work) -> bool:
        return work.question.is_last and self.config.last_turn == "answer"

    async def _last_turn(self, work: Work, limit: Status) -> Outcome:
        """End at a limit. With `agent.last_turn=answer` the model has one more turn, for its answer alone."""
        answer = None
        if self._has_last_turn(work) and work.chat.room > 0:
            work.chat.add_user(LAST)
            if (tokens := min(self.config.turn_tokens, work.chat.room)) > 0:
                message = await self._generate(work, tokens)
                answer = message.answer if message.ended else None
        return work.outcome(limit, answer)

    async def _generate(self, work: Work, limit: int) -> AssistantMessage:
        seed = turn_seed(self.record.seed, work.question.place, work.turns)
        message = await self.record.generate(work.chat, limit, seed, work.context)
        work.turns += 1
        work.last_content = message.content
        return message

    async def _objection(self, work: Work, answer: str) -> str:
        """The guard's objection to an answer, or an empty text. A guard that reaches no end does not object."""
        guard = self._member.guard
        if not guard or work.objections == OBJECTIONS:
            return ""
        work.last_call = ToolCall(ASK + guard, {"answer": answer})
        with self.record.call(work.context, work.last_call) as recorded:
            outcome = await self._ask(work, 0, guard, f"{work.question.with_notes}\n\nProposed answer: {answer}")
            recorded.observation = self._as_observation(guard, outcome)
        verdict, has_ended = recorded.observation, outcome.status in ("answered", "no_answer")
        if not has_ended or verdict.is_error or ACCEPTS.match(verdict.text):
            return ""
        work.objections += 1
        return f"{guard} objects: {verdict.text}"

    async def _make_calls(self, work: Work, calls: tuple[ToolCall, ...]) -> Outcome | Handoff | None:
        """Make the calls of a turn, and give their results to the model. Independent calls are made at the same time.

        Returns how the work ended, where a call ends it.
        """
        made, end = self._until_end(work, calls)
        results: list[str] = []
        for group in self._groups(made):
            results += await _gather([self._call(work, number, call) for number, call in group])
        if isinstance(end, Handoff):
            with self.record.call(work.context, calls[len(made)]) as recorded:
                recorded.observation = Observation(f"{end.to} goes on with the question", False, 0.0)
        if end is None:
            work.chat.add_tool_results(results)
        return end

    def _until_end(
        self, work: Work, calls: tuple[ToolCall, ...]
    ) -> tuple[list[tuple[int, ToolCall]], Outcome | Handoff | None]:
        """The numbered calls before the one that ends the work, and that end; None: no call ends it."""
        for number, call in enumerate(calls):
            work.repeats = work.repeats + 1 if call == work.last_call else 1
            work.last_call = call
            if work.repeats > self.config.max_repeats:
                return list(enumerate(calls[:number])), work.outcome("repeated")
            if self._agent_named(call, HAND_TO, self._member.hands_to) and not self._refusal(number, call):
                return list(enumerate(calls[:number])), self._handoff(work, number, call)
        return list(enumerate(calls)), None

    def _groups(self, calls: list[tuple[int, ToolCall]]) -> Iterator[list[tuple[int, ToolCall]]]:
        """The calls in their order. Independent neighbours are one group; each other call is a group of its own."""
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
        return bool(self._agent_named(call, ASK, self._member.asks)) or call.name in self._environment.independent

    def _handoff(self, work: Work, number: int, call: ToolCall) -> Handoff:
        notes = f"{self.name} leaves this to you, and says: {call.arguments.get('notes', '')}"
        place = (*work.question.place, work.turns - 1, number)
        return Handoff(
            self._agent_named(call, HAND_TO, self._member.hands_to), replace(work.question, place=place, notes=notes)
        )

    async def _call(self, work: Work, number: int, call: ToolCall) -> str:
        """Make a call. Returns the text that the model reads."""
        with self.record.call(work.context, call) as recorded:
            if reason := self._refusal(number, call):
                recorded.observation = Observation(f"error: {reason}", True, 0.0)
            elif other := self._agent_named(call, ASK, self._member.asks):
                outcome = await self._ask(work, number, other, str(call.arguments.get("question", "")))
                recorded.observation = self._as_observation(other, outcome)
            else:
                recorded.observation = await self._call_tool(call)
        return recorded.observation.text

    def _refusal(self, number: int, call: ToolCall) -> str:
        """Why a call is refused; empty: it is made."""
        if call.error:
            return call.error
        if number >= self.config.max_turns:  # the limit of turns is also one of calls in a turn
            return f"not run; a turn may make {self.config.max_turns} calls"
        if call.name not in self._names:
            return f"no tool {call.name[:100]!r}; there are: {', '.join(self._names)}"
        return ""

    def _agent_named(self, call: ToolCall, prefix: str, others: list[str]) -> str:
        """The agent that a call such as `ask_NAME` names; empty: it names none of `others`."""
        other = call.name.removeprefix(prefix)
        return other if other != call.name and other in others else ""

    async def _ask(self, work: Work, number: int, other: str, text: str) -> Outcome:
        """The outcome of a question to another agent, which may have a time limit of its own."""
        question = Question(text, (*work.question.place, work.turns - 1, number), work.context)
        limit = asyncio.timeout(members(self.config)[other].seconds or None)
        try:
            async with limit:
                return await ask(self._agents, other, question)
        except TimeoutError:
            if not limit.expired():
                raise
            return Outcome("timeout", None, "")

    def _as_observation(self, other: str, outcome: Outcome) -> Observation:
        given = outcome.answer if outcome.answer is not None else outcome.content
        if outcome.status == "timeout":
            reason = f"{other} took longer than {members(self.config)[other].seconds:g} s"
        else:
            reason = f"{other} gave no answer ({outcome.status})"
        return Observation(given or f"error: {reason}", not given, 0.0)

    async def _call_tool(self, call: ToolCall) -> Observation:
        shared = call.name not in self._environment.independent
        async with self.record.sandbox_lock if shared else nullcontext():
            began = self.record.now
            try:
                return await self._environment.call(call.name, call.arguments)
            finally:  # also of a call that is cut off
                self.record.seconds["tools"] += self.record.now - began


async def _gather(work: list[Coroutine[Any, Any, str]]) -> list[str]:
    """The results in their order. The first failure cancels the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
