"""inspect's logs, read by inspect-ai itself: its figures are those of our report."""

from dataclasses import replace
from pathlib import Path

import pytest
from exported_run import play, record, run_with
from inspect_ai.log import EvalLog, read_eval_log, read_eval_log_sample, recompute_metrics
from inspect_ai.model import ChatMessageAssistant, ChatMessageTool

from aworld.cli import main
from aworld.evaluation import benchmark, figures
from aworld.export.inspect_log import Part
from aworld.rundir import HELD_OUT, RunDir, open_run
from aworld.tasks.task import Container, Task

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def run(qwen3: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run, config, chat = run_with(tmp_path_factory.mktemp("runs"), qwen3)
    parts = play(run, config, chat)
    first = parts["evaluation"][0]
    partly = [
        replace(first, round=1, reward=0.25),
        replace(first, round=1, attempt=1, reward=0.5, reward_parts={"x": 2}),
    ]
    record(run.evaluation(HELD_OUT, 1), partly)
    assert main(["export", str(run.root), "--to", "inspect"]) == 0
    return run


def log_of(run: RunDir, name: str) -> EvalLog:
    return read_eval_log(str(run.root / "export/inspect" / f"{name}.eval"))


def value(log: EvalLog, metric: str, reducer: str = "mean") -> float:
    assert log.results
    return next(score for score in log.results.scores if score.reducer == reducer).metrics[metric].value


@pytest.mark.parametrize(("version", "metric"), [(0, "accuracy"), (1, "mean")])
def test_inspects_figures_are_those_of_the_report(run: RunDir, version: int, metric: str):
    ours = figures.figures(benchmark.played(run, HELD_OUT, version))
    log = log_of(run, f"held-out-{version}")
    assert log.status == "cancelled"  # not all is played
    assert value(log, metric) == pytest.approx(ours["mean_reward"])
    assert value(log, metric, "pass_at_2") == pytest.approx(ours["pass_at_k"][1])
    stated = log.results
    recompute_metrics(log)  # of the samples as they are in the file
    assert log.results and stated
    assert [score.metrics for score in log.results.scores] == [score.metrics for score in stated.scores]


def test_a_sample_has_messages_usage_times_and_its_end(run: RunDir):
    log = log_of(run, "held-out-0")
    assert log.eval.config.epochs == 2 and log.samples and len(log.samples) == 6
    right, limited, team, lost, *left = sorted(log.samples, key=lambda sample: (sample.id, sample.epoch))
    tool = next(message for message in right.messages if isinstance(message, ChatMessageTool))
    call = right.messages[2]
    assert isinstance(call, ChatMessageAssistant) and call.tool_calls
    assert (call.tool_calls[0].id, call.tool_calls[0].arguments) == (tool.tool_call_id, {"code": "6*7"})
    assert (tool.function, tool.text, right.total_time, right.turn_count) == ("python", "42", 2.5, 2)
    assert right.scores and right.scores["reward"].value == "C" and right.scores["reward"].answer == right.target
    kinds = [event.event for event in right.events]
    assert kinds == ["model", "tool", "model"]
    (usage,) = right.model_usage.values()
    turns = [event.output.usage for event in right.events if event.event == "model"]
    assert usage.output_tokens == sum(turn.output_tokens for turn in turns if turn) > 0
    assert usage.input_tokens == sum(turn.input_tokens for turn in turns if turn) > usage.output_tokens
    assert limited.limit and limited.limit.type == "token" and limited.error is None
    assert lost.error and lost.error.message == "vLLM died"
    assert lost.scores and lost.scores["reward"].value == "I"
    assert [sample.error.message for sample in left if sample.error] == ["not played"] * 2
    spans = [(event.name, event.parent_id) for event in team.events if event.event == "span_begin"]
    assert spans == [("helper", None)]
    assert [m.role for m in team.messages] == ["system", "user", "assistant", "tool", "assistant"]


def test_a_task_that_a_test_decides_is_scored_without_a_gold_answer(run: RunDir):
    config, _ = open_run(run.root)
    part = Part("x", "x", "m", config, run.root, benchmark.played(run, HELD_OUT, 0), False, {})
    tested = Task("t", "?", None, 1, container=Container(Path("image.sif"), "/", Path("tests")))
    assert part.is_scored(tested) and not part.is_scored(replace(tested, container=None))


def test_a_round_becomes_a_log_as_well(run: RunDir, tmp_path: Path):
    assert main(["export", str(run.root), "--to", "inspect", "--rounds", "1", "--output", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["round-1.eval"]
    log = read_eval_log(str(tmp_path / "round-1.eval"))
    assert value(log, "accuracy") == 0.5  # of four attempts, the lost one among them
    assert log.samples and read_eval_log_sample(str(tmp_path / "round-1.eval"), log.samples[0].id, 2).target


def test_a_model_behind_an_endpoint_has_its_turns(run: RunDir, qwen3: Path, tmp_path: Path):
    other, config, chat = run_with(tmp_path, qwen3)
    episode = play(other, config, chat)["evaluation"][0]
    told = replace(episode, round=5, token_ids=[], mask=[], logprobs=[], sampling={"completion_tokens": 12})
    record(other.evaluation(HELD_OUT, 5), [told])
    assert main(["export", str(other.root), "--to", "inspect", "--evaluations", "held-out-5"]) == 0
    (sample, *_) = log_of(other, "held-out-5").samples or []
    assert [message.role for message in sample.messages] == ["user", "assistant", "tool", "assistant"]
    (usage,) = sample.model_usage.values()
    assert usage.output_tokens == 12
