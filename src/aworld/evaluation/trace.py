"""Where an episode's time went: spans for the task, its agents, each model and tool call, one inside another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aworld.trajectories.episode import Episode, Turn

MICROSECONDS = 1e6


@dataclass(frozen=True)
class Span:
    """`began` and `seconds` count from the episode's beginning; `depth` 0 holds all others."""

    name: str
    kind: str  # task | agent | model | tool
    began: float
    seconds: float
    depth: int
    attributes: dict[str, Any]


def spans(episode: Episode) -> list[Span]:
    """Spans in the order they began. A span lies within the last earlier span of smaller depth."""
    total = episode.seconds.get("total", 0.0)
    outcome = {"status": episode.status, "answer": episode.answer, "reward": episode.reward, "error": episode.error}
    told = {"attempt": episode.attempt, "level": episode.level, "seed": episode.seed, **outcome}
    left = dict(enumerate(_by_context(episode)))
    agents = [span for context in list(left) for span in _agent(episode, left, context, 1)]
    return [Span(episode.task_id, "task", 0.0, total, 0, told), *agents]


def _by_context(episode: Episode) -> list[list[Turn]]:
    turns: list[list[Turn]] = [[] for _ in episode.contexts]
    for turn in episode.turns:
        turns[turn.context].append(turn)
    return turns


def _agent(episode: Episode, left: dict[int, list[Turn]], context: int, depth: int) -> Iterator[Span]:
    """A context and all that it waited for: a context that began and ended within one of its calls is that call's."""
    turns = left.pop(context, [])
    if not turns:
        return
    attributes = {"policy_version": episode.policy_version, "prompt": turns[0].text}
    yield Span(
        episode.contexts[context].agent, "agent", turns[0].began, _end(turns) - turns[0].began, depth, attributes
    )
    for turn in turns:
        if turn.role == "assistant":
            told = {"text": turn.text, "is_error": turn.is_error}
            yield Span("model", "model", turn.began, turn.seconds, depth + 1, told)
        elif turn.tool:
            call = {"arguments": turn.arguments, "result": turn.text, "is_error": turn.is_error}
            yield Span(turn.tool, "tool", turn.began, turn.seconds, depth + 1, call)
            asked = [other for other in left if episode.contexts[other].asked_by in (context, None)]
            for other in asked:
                if left[other] and turn.began <= left[other][0].began and _end(left[other]) <= _end([turn]):
                    yield from _agent(episode, left, other, depth + 2)


def _end(turns: list[Turn]) -> float:
    return max(turn.began + turn.seconds for turn in turns)


def chrome(episodes: list[Episode]) -> dict[str, Any]:
    """Chrome's trace format (complete events, times in µs), for Perfetto or chrome://tracing; an episode a row."""
    events: list[dict[str, Any]] = []
    for row, episode in enumerate(episodes):
        name = {"name": f"{episode.task_id} attempt {episode.attempt}"}
        events.append({"name": "thread_name", "ph": "M", "pid": 0, "tid": row, "args": name})
        for span in spans(episode):
            times = {"ts": span.began * MICROSECONDS, "dur": span.seconds * MICROSECONDS}
            events.append(
                {
                    "name": span.name,
                    "cat": span.kind,
                    "ph": "X",
                    "pid": 0,
                    "tid": row,
                    **times,
                    "args": span.attributes,
                }
            )
    return {"traceEvents": events, "displayTimeUnit": "ms"}
