"""The arithmetic of the experience benchmark, its endpoint, and a small pass of ours."""

import itertools
import json
import random
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import experience
import slow_endpoint
from course import RIVALS, Course, Measured, Setting, endpoint, makespan, order_of
from slow_endpoint import Asked, Latency
from usage import Used

from aworld.errors import InfrastructureError
from aworld.trajectories import journal

pytestmark = pytest.mark.tools
TOOL = {"type": "function", "function": {"name": "run", "parameters": {"properties": {"source": {"type": "string"}}}}}


def test_a_makespan_is_that_of_the_best_slot_for_each_in_turn() -> None:
    draw = random.Random(0)
    for _ in range(20):
        durations = [draw.uniform(0.1, 9.0) for _ in range(6)]
        ends: list[float] = []
        for seconds in durations:  # by hand: each begins once fewer than two are under way
            began = 0.0 if len(ends) < 2 else sorted(ends)[-2]
            ends.append(began + seconds)
        assert makespan(durations, 2) == pytest.approx(max(ends))
        best = min(makespan(order, 2) for order in itertools.permutations(durations))
        assert best >= max(*durations, sum(durations) / 2) - 1e-9


def test_everyone_sees_the_same_seconds_and_no_order_is_below_the_bound() -> None:
    setting = Setting(Latency(15, 4.0), 64, 16)
    assert (
        setting.durations == Setting(Latency(15, 4.0), 64, 16).durations != Setting(Latency(1, 4.0), 64, 16).durations
    )
    assert setting.listed(range(64)) >= setting.bound >= sum(setting.durations) / 16


def ask(address: str, messages: list[dict[str, Any]], **more: Any) -> bytes:
    body = json.dumps({"model": "slow", "messages": messages, "tools": [TOOL], **more}).encode()
    request = urllib.request.Request(f"{address}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return bytes(reply.read())


def test_the_endpoint_calls_the_tool_and_answers_with_its_result() -> None:
    setting = Setting(Latency(0, 0.01), 1, 1)
    messages: list[dict[str, Any]] = [{"role": "user", "content": slow_endpoint.question(0)}]
    with endpoint(setting.latency) as address:
        (choice,) = json.loads(ask(address, messages))["choices"]
        (call,) = choice["message"]["tool_calls"]
        assert call["function"] == {"name": "run", "arguments": json.dumps({"source": slow_endpoint.code(0)})}
        right = [*messages, choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "13"}]
        (choice,) = json.loads(ask(address, right))["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("<answer>13</answer>", "stop")
        turns = slow_endpoint.asked(address)
        assert order_of(setting, "somebody", turns) == [0] and slow_endpoint.asked(address) == []
        first, *_ = ask(address, messages, stream=True).decode().split("\n\n")
        assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["tool_calls"][0]["index"] == 0
        wrong = [*messages, {"role": "assistant", "content": ""}, {"role": "tool", "content": "130"}]
        assert b"none" in ask(address, wrong)
        with pytest.raises(InfrastructureError, match="somebody: 0 of 1 tasks were solved, in 2 turns"):
            order_of(setting, "somebody", slow_endpoint.asked(address))


def test_a_pass_twice_is_refused() -> None:
    twice = [Asked(0, turn, 0.0, 1.0, True) for turn in (0, 1, 0, 1)]
    with pytest.raises(InfrastructureError, match="2 of 1 tasks were solved, in 4 turns"):
        order_of(Setting(Latency(0, 1.0), 1, 1), "somebody", twice)


class Recorded(Course):
    """Passes that were measured elsewhere; Ray fails."""

    def play(self, reuse: str) -> Measured:
        return Measured(Used(10.0, 4.0, 100, 0.0), [0], 1.0)

    def play_again(self, name: str) -> Measured:
        return Measured(Used(8.0, 4.0, 100, 0.0), [0], 1.0)

    def play_rival(self, name: str) -> Measured:
        self.passes += 1
        if name == "Ray actors":
            raise InfrastructureError("no such actor in /home/me")
        return Measured(Used(20.0, 3.0, 100, 0.0), [0], 1.0)


def test_a_rival_that_fails_is_left_out_and_asked_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    course = Recorded(Setting(Latency(15, 0.2), 2, 2), "", tmp_path)
    figures, says, faults = experience.against_rivals(course, 3)
    assert faults == {"Ray actors": "no such actor in /home/me"} and "no such actor" in capsys.readouterr().err
    assert course.passes == 3 * (len(RIVALS) - 1) + 1
    found = {figure.name: figure.values for figure in figures}
    assert found["Original AWorld / ours, seconds"] == [2.0] * 3 and not any("Ray" in name for name in found)
    assert found["Original AWorld / ours, evaluated before, seconds"] == [2.5] * 3
    assert "Ray actors failed here and is left out." in says and not any("/home" in sentence for sentence in says)
    assert any(sentence.endswith("Original AWorld / ours, CPU; Verifiers / ours, CPU.") for sentence in says)


def test_a_small_pass_of_ours_is_counted_and_the_next_one_begins_with_the_longest(tmp_path: Path) -> None:
    setting = Setting(Latency(15, 0.2), 6, 2)
    with endpoint(setting.latency) as address:
        course = Course(setting, address, tmp_path)
        course.prepare()
        played = course.play("reset")
        assert played.order == [*range(6)] and played.used.seconds > setting.bound
        assert 0.2 < played.used.cpu < 60 and played.used.memory > 10 * 2**20
        took = {
            r.task_id: r.seconds["generate"] + r.seconds["tools"]
            for r in journal.records(course.run.evaluation("pass-1", 0) / "journals")
        }
        longest = sorted(took, key=lambda name: -took[name])
        again = course.play_again("pass-1").order
        assert {f"task-{task:04}" for task in again[:2]} == set(longest[:2])
