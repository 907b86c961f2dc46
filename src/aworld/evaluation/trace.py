"""Where an episode's time went: spans for the task, its agent, each model and tool call, one inside another."""

from dataclasses import dataclass
from typing import Any

from aworld.trajectories.episode import Episode

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
    """In the order they began; a span lies within the last one before it of a smaller depth."""
    total = episode.seconds.get("total", 0.0)
    outcome = {"status": episode.status, "answer": episode.answer, "reward": episode.reward, "error": episode.error}
    found = [
        Span(episode.task_id, "task", 0.0, total, 0, {"attempt": episode.attempt, "level": episode.level, **outcome}),
        Span("agent", "agent", 0.0, total, 1, {"policy_version": episode.policy_version, "seed": episode.seed}),
    ]
    for turn in episode.turns:
        if turn.role == "assistant":
            found.append(Span("model", "model", turn.began, turn.seconds, 2, {"text": turn.text}))
        elif turn.tool:
            told = {"arguments": turn.arguments, "result": turn.text, "is_error": turn.is_error}
            found.append(Span(turn.tool, "tool", turn.began, turn.seconds, 2, told))
    return found


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
