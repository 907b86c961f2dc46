"""An agent: ask its model, run what it calls, tell it the results, until it answers or a limit is reached."""

import hashlib
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aworld import config as schema
from aworld.agents.messages import URGENT, Exchange, Message
from aworld.agents.protocols import Conversation, Environment, Observation, Speaker, ToolCall, Utterance
from aworld.agents.roles import ASK, HAND_TO, TOOLS, USER, members, offered, order, prompt
from aworld.errors import AWorldError, InputError
from aworld.trajectories.episode import Status, Turn

SLOW = 3.0  # a turn that takes so many times as long as the turns before it, token for token, has stalled
OBJECTIONS = 2  # of a guard to one agent's answers; the answer after that stands
ACCEPTS = re.compile(r"[\W_]*accept\b", re.IGNORECASE)
NUDGE = "You have neither called a tool nor given a final answer. Go on, and give it in the form that you were told."
LAST = "This was your last turn with tools. Give your final answer now, in the form that you were told."
LAST_SHARE = 8  # at most this part of a context is kept free for the last turn
UNFINISHED = "[not finished]"
DROPPED = "[Your first turns are left out here.]"
SUMMARISE = "Your context is nearly full. Write down all that you have found out so far and what is left to do."
SUMMARY = "[Your first turns are left out here. You noted:]\n"


@dataclass(frozen=True)
class Outcome:
    """How an agent ended with a question; `said` is the last it said, also without an answer. An answer with the status
    of a limit was given in the last turn."""

    status: Status
    answer: str | None
    said: str


@dataclass(frozen=True)
class Handoff:
    """A question that another agent goes on with: it answers to whoever asked first."""

    task: Message
    notes: str


@dataclass
class Record:
    """What all agents of an episode share: its limits, and what is written down of it."""

    config: schema.Agent
    seed: int
    turns: list[Turn] = field(default_factory=list)
    contexts: list[tuple[str, Conversation]] = field(default_factory=list)
    waiting: list["Work"] = field(default_factory=list)  # for a call; each made on account of the one before it
    seconds: dict[str, float] = field(default_factory=lambda: {"generate": 0.0, "tools": 0.0, "stalled": 0.0})
    sampled: int = 0  # tokens
    spoken: int = 0  # turns
    began: float = field(default_factory=time.monotonic)

    @property
    def now(self) -> float:
        """Seconds since the episode began."""
        return time.monotonic() - self.began

    @property
    def spent(self) -> Status | None:
        """The limit because of which no agent may say anything more."""
        if self.spoken >= self.config.max_turns:
            return "max_turns"
        return "max_tokens" if self.sampled >= self.config.max_tokens else None

    def longest_turn(self, tokens: int) -> float:
        """Seconds that a turn of so many tokens may take, by the pace of those so far; 0 where there are none."""
        return SLOW * tokens * self.seconds["generate"] / self.sampled if self.sampled else 0.0

    def begin(self, agent: str, talk: Conversation) -> int:
        """Note a new context; returns its index."""
        self.contexts.append((agent, talk))
        number = len(self.contexts) - 1
        self.turns.append(Turn("prompt", talk.opening, began=self.now if number else 0.0, context=number))
        return number

    def note(self, work: "Work", seen: Observation) -> None:
        """Write down how the call ended that is waited for."""
        call, seconds = work.call, seen.seconds or self.now - work.began
        if seen.stalled:
            self.seconds["stalled"] += seconds
        name, arguments = (call.name, call.arguments) if call and call.name else (None, None)
        self.turns.append(Turn("tool", seen.text, name, arguments, seen.is_error, seconds, work.began, work.context))

    def cut(self, until: "Work | None" = None) -> None:
        """Nobody waits for the calls any more that were made on account of the one that `until` waits for, or for any:
        an answer that comes is the last word on all below it."""
        while self.waiting and (work := self.waiting.pop()) is not until:
            self.note(work, Observation(UNFINISHED, True, 0.0))


@dataclass
class Work:
    """A question that an agent has in hand."""

    task: Message  # by which it was asked
    question: str
    talk: Conversation
    context: int
    calls: deque[ToolCall] = field(default_factory=deque)  # left to make
    results: list[str] = field(default_factory=list)
    call: ToolCall | None = None  # the last one made
    repeats: int = 0  # how often it was made in a row
    said: str = ""
    answer: str | None = None  # not yet seen by the guard
    objections: int = 0
    is_nudged: bool = False
    began: float = 0.0  # of the call


def turn_seed(seed: int, turn: int) -> int:
    """The sampling seed of one turn (63 bits)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{turn}".encode()).digest()[:8]) >> 1


class Tools:
    """The environment, as one that receives calls."""

    def __init__(self, environment: Environment, record: Record):
        self._environment, self._record = environment, record

    async def receive(self, message: Message, exchange: Exchange) -> None:
        began = self._record.now
        try:
            seen = await self._environment.call(message.content.name, message.content.arguments)
        finally:  # also of a call that is cut off
            self._record.seconds["tools"] += self._record.now - began
        exchange.send("result", TOOLS, message.sender, seen, message.number)


class Agent:
    """One agent of an episode. It makes its calls one after another; what is wrong with one its model reads."""

    def __init__(self, name: str, config: schema.Agent, speaker: Speaker, tools: list[dict[str, Any]], record: Record):
        self.name, self.config, self.record = name, config, record
        self._member = members(config)[name]
        self._speaker = speaker
        self._tools = offered(config, name, tools)
        self._names = [tool["function"]["name"] for tool in self._tools]
        self._waiting: dict[int | None, Work] = {}  # by the number of the message that is to be answered

    async def receive(self, message: Message, exchange: Exchange) -> None:
        is_new = message.topic in ("task", "handoff")
        work = self._begin(message) if is_new else self._waiting.pop(message.about)
        if not is_new:
            self.record.cut(work)
        try:
            await self._go_on(work, message, exchange)
        except AWorldError as error:  # whoever asked has to know
            exchange.send("error", self.name, work.task.sender, error, work.task.number, URGENT)

    async def _go_on(self, work: Work, message: Message, exchange: Exchange) -> None:
        if message.topic in ("task", "handoff"):
            await self._speak(work, exchange)
        elif isinstance(message.content, AWorldError):
            self.record.note(work, _observed(message))
            raise message.content
        elif work.answer is not None:
            await self._heard_guard(work, message, exchange)
        else:
            self._heard(work, _observed(message))
            await self._act(work, exchange)

    def _begin(self, message: Message) -> Work:
        question = message.content
        if isinstance(question, Handoff):
            notes = f"{message.sender} leaves this to you, and says: {question.notes}"
            message, question = question.task, f"{question.task.content}\n\n{notes}"
        talk = self._speaker.begin(prompt(self.config, self._member), question, self._tools)
        return Work(message, question, talk, self.record.begin(self.name, talk))

    async def _speak(self, work: Work, exchange: Exchange) -> None:
        c, record = self.config, self.record
        if record.spoken >= c.max_turns:
            return await self._last(work, exchange, "max_turns")
        if not record.spoken and (tokens := len(work.talk.token_ids)) >= work.talk.context:
            raise InputError(
                f"system prompt, tools and question take {tokens} tokens, and the context holds {work.talk.context}; "
                f"raise model.shard.max_model_len, give fewer tools, or leave the task out: {work.question[:80]!r}"
            )
        if c.context != "append" and work.talk.room < c.turn_tokens * (3 if c.context == "summarise" else 1):
            await self._shorten(work)
        limit = self._limit(work)
        if limit < 1:
            return await self._last(work, exchange, "max_tokens")
        said = await self._say(work, limit)
        if said.is_error:
            return self._end(work, exchange, "no_answer" if said.ended else "max_tokens")
        if not said.ended and not said.calls:
            return await self._last(work, exchange, "max_tokens")
        if said.answer is not None:
            return self._answer(work, said.answer, exchange)
        if not said.calls:
            return await self._nudge(work, exchange)
        work.calls, work.results = deque(said.calls), []
        return await self._act(work, exchange)

    def _limit(self, work: Work) -> int:
        """Tokens that the next turn may have; the last one finds some room in the context."""
        c, room = self.config, work.talk.room
        if c.context == "append" and self._may_be_asked_again(work):
            room -= min(c.turn_tokens, work.talk.context // LAST_SHARE)
        return min(c.turn_tokens, c.max_tokens - self.record.sampled, room)

    def _may_be_asked_again(self, work: Work) -> bool:
        """Whether its answer is the episode's, and it has a last turn."""
        answers = work.task.sender == USER and work.task.receiver == order(self.config)[-1]
        return answers and self.config.last_turn == "answer"

    async def _nudge(self, work: Work, exchange: Exchange) -> None:
        """After a turn with neither call nor answer: once it may go on."""
        if work.is_nudged or not self._may_be_asked_again(work):
            return self._end(work, exchange, "no_answer")
        work.is_nudged = True
        work.talk.told(NUDGE)
        return await self._speak(work, exchange)

    async def _last(self, work: Work, exchange: Exchange, limit: Status) -> None:
        """At a limit: end, after one turn beyond it in which nothing but an answer counts."""
        if self._may_be_asked_again(work) and work.talk.room > 0:
            work.talk.told(LAST)
            if (tokens := min(self.config.turn_tokens, work.talk.room)) > 0:
                said = await self._say(work, tokens)
                work.answer = said.answer if said.ended else None
        self._end(work, exchange, limit)

    async def _say(self, work: Work, limit: int) -> Utterance:
        record, began = self.record, self.record.now
        said = Utterance(UNFINISHED, "", (), None, False, 0, is_error=True)
        try:
            said = await work.talk.say(limit, turn_seed(record.seed, record.spoken))
        finally:  # also of a turn that is cut off: it took its time, though none of its tokens are there
            seconds = record.now - began
            if said.is_error:
                record.seconds["stalled"] += max(0.0, seconds - record.longest_turn(limit))
            record.seconds["generate"] += seconds
            record.turns.append(Turn("assistant", said.text, None, None, said.is_error, seconds, began, work.context))
        record.sampled += said.tokens
        record.spoken += 1
        work.said = said.said
        return said

    async def _act(self, work: Work, exchange: Exchange) -> None:
        """Send the next call on its way; once all are answered, tell the model."""
        while work.calls:
            call = work.calls.popleft()
            work.repeats = work.repeats + 1 if call == work.call else 1
            work.call, work.began = call, self.record.now
            if work.repeats > self.config.max_repeats:
                return self._end(work, exchange, "repeated")
            other = call.name.removeprefix(ASK).removeprefix(HAND_TO)
            if reason := self._refusal(work, call):
                self._heard(work, Observation(f"error: {reason}", True, 0.0))
            elif call.name == ASK + other and other in self._member.asks:
                return self._ask(work, other, str(call.arguments.get("question", "")), exchange)
            elif call.name == HAND_TO + other and other in self._member.hands_to:
                self.record.note(work, Observation(f"{other} goes on with the question", False, 0.0))
                notes = str(call.arguments.get("notes", ""))
                exchange.send("handoff", self.name, other, Handoff(work.task, notes))
                return None
            else:
                return self._wait(work, exchange.send("call", self.name, TOOLS, call))
        work.talk.hear(work.results)
        return await self._speak(work, exchange)

    def _ask(self, work: Work, other: str, question: str, exchange: Exchange) -> None:
        """Put a question to another agent, which may have a limit of time of its own."""
        number = exchange.send("task", self.name, other, question)
        self._wait(work, number)
        if seconds := members(self.config)[other].seconds:
            exchange.cancel_after(seconds, number, f"{other} took longer than {seconds:g} s")

    def _wait(self, work: Work, number: int) -> None:
        """Wait for what comes of the message of this number."""
        self._waiting[number] = work
        self.record.waiting.append(work)

    def _refusal(self, work: Work, call: ToolCall) -> str:
        """Why a call is not made; empty when it is."""
        if call.error:
            return call.error
        if len(work.results) >= self.config.max_turns:  # what may take so many turns may take one
            return f"not run; a turn may make {self.config.max_turns} calls"
        if call.name not in self._names:
            return f"no tool {call.name[:100]!r}; there are: {', '.join(self._names)}"
        return ""

    def _answer(self, work: Work, answer: str, exchange: Exchange) -> None:
        """Give the answer, or show it to the guard first."""
        work.answer = answer
        if self._member.guard and work.objections < OBJECTIONS:
            work.call, work.began = ToolCall(ASK + self._member.guard, {"answer": answer}), self.record.now
            return self._ask(work, self._member.guard, f"{work.question}\n\nProposed answer: {answer}", exchange)
        return self._end(work, exchange, "answered")

    async def _heard_guard(self, work: Work, message: Message, exchange: Exchange) -> None:
        """A guard accepts, or objects: anything else that it answers. One that did not get to an end keeps nobody."""
        verdict = _observed(message)
        self.record.note(work, verdict)
        got_to_an_end = isinstance(message.content, Outcome) and message.content.status in ("answered", "no_answer")
        if not got_to_an_end or verdict.is_error or ACCEPTS.match(verdict.text):
            return self._end(work, exchange, "answered")
        work.answer = None
        work.objections += 1
        work.talk.told(f"{self._member.guard} objects: {verdict.text}")
        return await self._speak(work, exchange)

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
            work.talk, work.context = shorter, self.record.begin(self.name, shorter)

    def _heard(self, work: Work, seen: Observation) -> None:
        """Note a result, and keep it for the model."""
        self.record.note(work, seen)
        work.results.append(seen.text)

    def _end(self, work: Work, exchange: Exchange, status: Status) -> None:
        outcome = Outcome(status, work.answer, work.said)
        exchange.send("answer", self.name, work.task.sender, outcome, work.task.number)


def _observed(message: Message) -> Observation:
    """What a model reads of a result, of another agent's answer, or of an error."""
    content = message.content
    if isinstance(content, Observation):
        return content
    if isinstance(content, Outcome):
        given = content.answer if content.answer is not None else content.said
        text = given or f"error: {message.sender} gave no answer ({content.status})"
        return Observation(text, not given, 0.0)
    return Observation(f"error: {content}", True, 0.0)
