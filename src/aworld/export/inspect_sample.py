"""An attempt at a task as a sample of an inspect log: messages, score, usage, and the events of its agents."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from inspect_ai.event import Event, ModelEvent, SpanBeginEvent, SpanEndEvent, ToolEvent
from inspect_ai.log import EvalError, EvalSample, EvalSampleLimit
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.scorer import CORRECT, INCORRECT, Score
from inspect_ai.tool import ToolCall, ToolCallError

from aworld.evaluation.attempt import Attempt
from aworld.export.conversation import Message, Reader
from aworld.export.transcript import Spoken, Transcript, transcripts
from aworld.tasks.task import Task
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.frames import read_arrays

LIMITS = {"max_turns": "turn", "max_tokens": "token", "timeout": "time"}  # inspect's names of what ended an episode
SCORER = "reward"
NOT_PLAYED = "not played"


@dataclass(frozen=True)
class Maker:
    """Makes the samples of one log.

    Attributes:
        model: its name.
        limits: by status, the value of the limit that was reached.
        is_binary: whether each reward is 0 or 1; they become C and I.
        began: the time from which the events of every sample count. An episode records its seconds, not the hour.
        reader: of the policy's tokens; None: there is no policy.
    """

    model: str
    limits: dict[str, float]
    is_binary: bool
    began: datetime
    reader: Reader | None

    def missing(self, task: Task, attempt: int, is_scored: bool) -> EvalSample:
        """An attempt that was asked for and is not played: it counts as wrong."""
        score = {SCORER: self._score(0.0, explanation=NOT_PLAYED)} if is_scored else None
        return EvalSample(**_asked(task, attempt), scores=score, error=_error(NOT_PLAYED))

    def played(self, task: Task, attempt: Attempt, is_scored: bool) -> EvalSample:
        """A played attempt. Reads its text and its tokens.

        Raises:
            InfrastructureError: its text was damaged just now.
        """
        episode = attempt.read()
        found = transcripts(episode, read_arrays(attempt.entry) if attempt.tokens else None, self.reader)
        shown = [_messages(one) for one in found]
        last = [n for n, one in enumerate(found) if one.asked_by is None][-1]  # whose answer is the episode's
        spoken = [turn for one in found for turn in one.spoken]
        total = episode.seconds.get("total", 0.0)
        told = episode.status if not episode.error else f"{episode.status}: {episode.error}"
        score = self._score(
            episode.reward, answer=episode.answer, explanation=told, metadata=dict(episode.reward_parts) or None
        )
        return EvalSample(
            **_asked(task, attempt.attempt),
            messages=shown[last],
            output=self._output(shown[last], found[last].spoken[-1]) if found[last].spoken else ModelOutput(),
            scores={SCORER: score} if is_scored else None,
            metadata={
                "level": task.level,
                "status": episode.status,
                "policy_version": episode.policy_version,
                "seed": episode.seed,
                "agents": sorted({one.agent for one in found}),
                "seconds": episode.seconds,
            },
            events=list(self._events(found, shown)),
            model_usage={self.model: _usage(sum(turn.prompt or 0 for turn in spoken), attempt.sampled)},
            total_time=total,
            working_time=max(0.0, total - episode.seconds.get("stalled", 0.0)),
            turn_count=attempt.turns,
            error=_error(episode.error) if episode.status == "infra_error" or attempt.is_not_scored else None,
            limit=self._limit(episode),
        )

    def _score(self, reward: float, **told: Any) -> Score:
        value: str | float = (CORRECT if reward >= 1 else INCORRECT) if self.is_binary else reward
        return Score(value=value, **told)

    def _limit(self, episode: Episode) -> EvalSampleLimit | None:
        name = LIMITS.get(episode.status)
        return EvalSampleLimit(type=name, limit=self.limits[episode.status]) if name else None  # type: ignore[arg-type]

    def _events(self, found: list[Transcript], shown: list[list[ChatMessage]]) -> Iterator[Event]:
        """Turns of models and calls of tools, in a span for each context, inside that of the context that asked."""
        events: list[tuple[float, Event]] = []
        asked = [number for number, one in enumerate(found) if one.asked_by is None]
        alone = asked if len(asked) == 1 else []  # the one agent that the user asks needs no span
        for number, (one, messages) in enumerate(zip(found, shown, strict=True)):
            if not one.turns:
                continue
            begin, end = one.turns[0].began, max(turn.began + turn.seconds for turn in one.turns)
            span = None if number in alone else f"context-{number}"
            if span:
                parent = None if one.asked_by in (None, *alone) else f"context-{one.asked_by}"
                place = self._at(begin, span)
                opening = SpanBeginEvent(id=span, parent_id=parent, type="agent", name=one.agent, **place)
                events.append((begin, opening))
            spoken, ids = iter(one.spoken), one.call_ids()
            for at, turn in enumerate(one.turns):
                place = self._at(turn.began, span) | self._until(turn)
                if turn.role == "assistant":
                    said = None if turn.is_error else next(spoken, None)
                    events.append((turn.began, self._model_event(turn, said, messages, place)))
                elif turn.role == "tool":
                    events.append((turn.began, _tool_event(turn, ids[at], place)))
            if span:
                events.append((end, SpanEndEvent(id=span, **self._at(end, span))))
        yield from (event for _, event in sorted(events, key=lambda pair: pair[0]))  # stable: a span begins first

    def _model_event(
        self, turn: Turn, said: Spoken | None, messages: list[ChatMessage], place: dict[str, Any]
    ) -> ModelEvent:
        return ModelEvent(
            model=self.model,
            input=messages[: said.at] if said else [],
            tools=[],
            tool_choice="auto",
            config=GenerateConfig(),
            output=self._output(messages, said) if said else ModelOutput(model=self.model),
            error=None if said else turn.text,
            **place,
        )

    def _output(self, messages: list[ChatMessage], said: Spoken) -> ModelOutput:
        message = messages[said.at]
        assert isinstance(message, ChatMessageAssistant)
        reason = "max_tokens" if said.is_cut else "tool_calls" if message.tool_calls else "stop"
        usage = None if said.sampled is None else _usage(said.prompt or 0, said.sampled)
        choice = ChatCompletionChoice(message=message, stop_reason=reason)  # type: ignore[arg-type]
        return ModelOutput(model=self.model, choices=[choice], usage=usage)

    def _at(self, seconds: float, span: str | None) -> dict[str, Any]:
        return {"timestamp": self.began + timedelta(seconds=seconds), "working_start": seconds, "span_id": span}

    def _until(self, turn: Turn) -> dict[str, Any]:
        completed = self.began + timedelta(seconds=turn.began + turn.seconds)
        return {"completed": completed, "working_time": turn.seconds}


def _asked(task: Task, attempt: int) -> dict[str, Any]:
    """An epoch counts from 1."""
    files = [path.name for path in task.files] or None
    target = "" if task.answer is None else task.answer
    return {"id": task.task_id, "epoch": attempt + 1, "input": task.question, "target": target, "files": files}


def _messages(one: Transcript) -> list[ChatMessage]:
    """The messages of a context, with the errors of its tools."""
    ids = one.call_ids()
    errors = {ids[n]: turn.text for n, turn in enumerate(one.turns) if turn.role == "tool" and turn.is_error}
    names = {call["id"]: call["function"]["name"] for m in one.messages for call in m.get("tool_calls", ())}
    names |= {ids[n]: turn.tool for n, turn in enumerate(one.turns) if turn.role == "tool" and turn.tool}
    return [_message(message, names, errors) for message in one.messages]


def _message(message: Message, names: dict[str, str], errors: dict[str, str]) -> ChatMessage:
    text = message["content"]
    if message["role"] == "system":
        return ChatMessageSystem(content=text)
    if message["role"] == "tool":
        name = message["tool_call_id"]
        error = ToolCallError("unknown", errors[name]) if name in errors else None
        return ChatMessageTool(content=text, tool_call_id=name, function=names.get(name), error=error)
    if message["role"] != "assistant":
        return ChatMessageUser(content=text)
    calls = [
        ToolCall(id=call["id"], function=call["function"]["name"], arguments=json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    ]
    if thought := message.get("reasoning_content"):
        text = [ContentReasoning(reasoning=thought), ContentText(text=text)]
    return ChatMessageAssistant(content=text, tool_calls=calls or None)


def _tool_event(turn: Turn, call: str, place: dict[str, Any]) -> ToolEvent:
    error = ToolCallError("unknown", turn.text) if turn.is_error else None
    name = turn.tool or "malformed call"
    return ToolEvent(id=call, function=name, arguments=turn.arguments or {}, result=turn.text, error=error, **place)


def _usage(prompt: int, sampled: int) -> ModelUsage:
    return ModelUsage(input_tokens=prompt, output_tokens=sampled, total_tokens=prompt + sampled)


def _error(reason: str) -> EvalError:
    return EvalError(message=reason, traceback="", traceback_ansi="")
