import json
from dataclasses import replace

import pytest

from aworld.evaluation import trace
from aworld.trajectories.episode import Context, Episode, Turn

pytestmark = pytest.mark.unit

TURNS = [
    Turn("prompt", "?"),
    Turn("assistant", "calls two", seconds=1.0, began=0.5),
    Turn("tool", "4", "python", {"code": "2+2"}, seconds=0.25, began=1.5),
    Turn("tool", "no such file", "read_file", {"path": "x"}, True, 0.25, 1.75),
    Turn("tool", "error: a call that was no JSON", is_error=True, began=2.0),
    Turn("assistant", "<answer>4</answer>", seconds=1.0, began=2.0),
]


def with_a_colleague() -> Episode:
    """The solver asks the checker, who asks nobody, then hands over to the writer."""
    turns = [
        Turn("prompt", "?"),
        Turn("assistant", "asks", seconds=1.0),
        Turn("prompt", "is it so?", began=1.0, context=1),
        Turn("assistant", "computes", seconds=0.5, began=1.0, context=1),
        Turn("tool", "4", "python", {"code": "2+2"}, seconds=0.25, began=1.5, context=1),
        Turn("assistant", "<answer>yes</answer>", seconds=0.5, began=1.75, context=1),
        Turn("tool", "yes", "ask_checker", {"question": "is it so?"}, seconds=1.5, began=1.0),
        Turn("assistant", "hands over", seconds=0.5, began=2.5),
        Turn("tool", "writer goes on", "hand_to_writer", {"notes": ""}, began=3.0),
        Turn("prompt", "go on", began=3.0, context=2),
        Turn("assistant", "<answer>4</answer>", seconds=0.125, began=3.0, context=2),
    ]
    contexts = [Context("solver"), Context("checker", asked_by=0), Context("writer")]
    return replace(episode(0), turns=turns, contexts=contexts)


def episode(attempt: int) -> Episode:
    seconds = {"generate": 2.0, "tools": 0.5, "total": 3.125}
    return Episode(0, "task", attempt, 1, "?", [], [], [], TURNS, "4", 1.0, "answered", seconds, 5, 7)


@pytest.mark.parametrize("played", [lambda: episode(0), with_a_colleague])
def test_every_span_lies_within_the_one_above_it(played):
    stack: list[trace.Span] = []
    for span in trace.spans(played()):
        del stack[span.depth :]
        assert len(stack) == span.depth
        if stack:
            assert stack[-1].began <= span.began
            assert span.began + span.seconds <= stack[-1].began + stack[-1].seconds
        stack.append(span)


def test_model_and_tool_calls_are_there_with_their_times():
    found = [(span.kind, span.name, span.began, span.seconds) for span in trace.spans(episode(0))]
    assert found == [
        ("task", "task", 0.0, 3.125),
        ("agent", "agent", 0.0, 3.0),
        ("model", "model", 0.5, 1.0),
        ("tool", "python", 1.5, 0.25),
        ("tool", "read_file", 1.75, 0.25),
        ("model", "model", 2.0, 1.0),
    ]


def test_an_agent_that_is_asked_lies_within_the_call():
    found = [(span.depth, span.kind, span.name) for span in trace.spans(with_a_colleague())]
    assert found == [
        (0, "task", "task"),
        (1, "agent", "solver"),
        (2, "model", "model"),
        (2, "tool", "ask_checker"),
        (3, "agent", "checker"),
        (4, "model", "model"),
        (4, "tool", "python"),
        (4, "model", "model"),
        (2, "model", "model"),
        (2, "tool", "hand_to_writer"),
        (1, "agent", "writer"),
        (2, "model", "model"),
    ]


def test_an_episode_of_an_older_journal_has_the_same_spans():
    """Its contexts do not say who asked: the times do."""
    played = with_a_colleague()
    older = replace(played, contexts=[replace(context, asked_by=None) for context in played.contexts])
    assert list(trace.spans(older)) == list(trace.spans(played))


def test_the_chrome_format_has_complete_events_in_microseconds_and_a_row_for_each_attempt():
    found = json.loads(json.dumps(trace.chrome([episode(0), episode(1)])))
    complete = [event for event in found["traceEvents"] if event["ph"] == "X"]
    assert {event["tid"] for event in complete} == {0, 1}
    assert all({"name", "cat", "ts", "dur", "pid", "tid"} <= event.keys() for event in complete)
    tool = next(event for event in complete if event["name"] == "read_file")
    assert (tool["ts"], tool["dur"], tool["args"]["is_error"]) == (1_750_000, 250_000, True)
    names = [event["args"]["name"] for event in found["traceEvents"] if event["ph"] == "M"]
    assert names == ["task attempt 0", "task attempt 1"]
