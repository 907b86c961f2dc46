"""A run's page from made-up rounds; what is in it is counted here by hand."""

from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.evaluation import benchmark
from aworld.evaluation.report import report
from aworld.publish import publish_json, publish_text
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit


def episode(round_: int, task: str, attempt: int, reward: float) -> Episode:
    seconds = {"wait": 1.0, "generate": 6.0, "tools": 2.0, "total": 9.0}
    turns = [Turn("tool", "no such file", "files", {}, is_error=attempt == 1), Turn("assistant", "done")]
    tokens = ([1] * 5, [0, 0, 1, 1, 1], [0.0] * 5)
    return Episode(round_, task, attempt, 1, "?", *tokens, turns, "x", reward, "answered", seconds, 0, 0)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    words = [
        "recipe=demo",
        f"runs={tmp_path}",
        "name=run",
        "tasks.train=4",
        "tasks.held_out=2",
        "evaluation.attempts=2",
    ]
    return configuration.load(words)


@pytest.fixture
def run(config: Config) -> RunDir:
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config))
    return run


def gathered(run: RunDir, number: int, rewards: dict[str, list[float]]) -> None:
    run.round(number).mkdir(parents=True)
    episodes = [episode(number, task, n, reward) for task, each in rewards.items() for n, reward in enumerate(each)]
    file.write(run.trajectories(number), arrays.from_episodes(number, episodes))
    publish_json(
        run.round(number) / "timing.json", {"rollout_seconds": 4.0, "load_seconds": 1.0, "gather_seconds": 1.0}
    )


def test_a_round_shows_how_many_calls_of_tools_failed(config: Config, run: RunDir) -> None:
    gathered(run, 1, {"a": [1.0, 0.0]})
    publish_json(run.round(1) / "tools.json", {"calls": 340, "errors": 12})
    gathered(run, 2, {"a": [1.0, 0.0]})
    publish_json(run.round(2) / "tools.json", {"calls": 0, "errors": 0})
    gathered(run, 3, {"a": [1.0, 0.0]})  # from trajectories that were not gathered here
    rounds = report(config, run)["rounds"]
    assert [(r["tool_calls"], r["tool_errors"]) for r in rounds] == [(340, 12), (0, 0), (None, None)]
    page = (run.root / "report.html").read_text()
    rows = page[page.index("<th>tool errors</th>") :].split("</table>")[0].split("<tr>")[1:]
    assert [row.split("<td>")[6].removesuffix("</td>") for row in rows] == ["12 of 340", "0 of 0", "–"]


def test_the_parts_of_rewards_are_in_the_report(config: Config, run: RunDir) -> None:
    gathered(run, 1, {"a": [1.0, 0.0]})
    publish_json(run.round(1) / "rewards.json", {"parts": {"used": 0.5}, "not_scored": {"it raised": 3, "it hung": 1}})
    gathered(run, 2, {"a": [1.0, 0.0]})
    rounds = report(config, run)["rounds"]
    assert [(one["reward_parts"], one["not_scored"]) for one in rounds] == [({"used": 0.5}, 4), ({}, 0)]


def test_a_round_shows_what_it_took_and_what_it_taught(config: Config, run: RunDir) -> None:
    gathered(run, 1, {"a": [1.0, 0.0], "b": [0.0, 0.0], "c": [1.0, 1.0]})
    metrics = {
        "loss": 0.125,
        "grad_norm": 2.5,
        "clip_fraction": 0.0625,
        "tokens_trained": 60,
        "seconds": {"train": 2.0},
    }
    publish_json(run.round(1) / "metrics.json", metrics)
    (found,) = report(config, run)["rounds"]
    assert (found["loss"], found["grad_norm"], found["clip_fraction"]) == (0.125, 2.5, 0.0625)
    assert (found["n_groups"], found["n_zero_variance"]) == (3, 2)
    assert (found["tokens_per_second"], found["trained_tokens_per_second"]) == (18 / 4, 30.0)
    assert found["episode_time"] == pytest.approx({"wait": 0.1, "generate": 0.6, "tools": 0.2, "rest": 0.1})
    page = (run.root / "report.html").read_text()
    for cell in ("0.1250", "2.500", "6.2", "2 of 3", "60.0", "20.0", "10.0"):
        assert f"<td>{cell}</td>" in page


def test_a_round_without_metrics_shows_dashes(config: Config, run: RunDir) -> None:
    gathered(run, 1, {"a": [1.0, 0.0]})
    (found,) = report(config, run)["rounds"]
    assert found["loss"] is None and found["trained_tokens_per_second"] is None
    assert "<td>–</td>" in (run.root / "report.html").read_text()


def test_evaluations_show_which_tools_failed(config: Config, run: RunDir) -> None:
    tasks = list(make_source(config.tasks, run.tasks).tasks("held_out"))
    for version in (0, 1):
        with Journal(run.evaluation("held-out", version) / "journals" / "worker-0.journal") as log:
            for task in tasks:
                for attempt in range(2):
                    log.append(episode(version, task.task_id, attempt, 0.5 if version else 0.0))
        publish_json(run.evaluation("held-out", version) / "timing.json", {})
    found = report(config, run)["evaluation"]
    assert found["after"]["tools"] == {"files": {"calls": 4, "errors": 2}}
    assert (found["before"]["measure"], found["after"]["measure"]) == ("pass@1", "mean reward")
    page = (run.root / "report.html").read_text()
    assert "after: files 4 calls, 2 errors" in page and "held-out mean reward after" in page


def test_every_finished_evaluation_is_in_the_report(config: Config, run: RunDir) -> None:
    other = ["tasks.held_out=3", "tasks.seed=7", "evaluation.attempts=1"]
    benchmark.begin(configuration.changed(config, other), run, "other", 0)
    played = [("held-out", 0, 2, 0.0), ("held-out", 5, 2, 1.0), ("held-out", 9, 2, 0.0), ("other", 5, 1, 1.0)]
    for name, version, attempts, reward in played:
        tasks = benchmark.read(run, name)[2].tasks("held_out")
        with Journal(run.evaluation(name, version) / "journals" / "worker-0.journal") as log:
            for task in tasks:
                for attempt in range(attempts):
                    log.append(episode(version, task.task_id, attempt, reward))
        publish_json(run.evaluation(name, version) / "timing.json", {})
    found = report(config, run)
    rows = [(name, one["policy"], one["mean_reward"]) for name, each in found["evaluations"].items() for one in each]
    assert rows == [("held-out", 0, 0.0), ("held-out", 5, 1.0), ("held-out", 9, 0.0), ("other", 5, 1.0)]
    assert found["evaluation"]["after"]["policy"] == 9 and found["evaluation"]["difference"]["mean"] == 0.0
    page = (run.root / "report.html").read_text()
    table = page[page.index("<h2>Evaluations</h2>") :].split("</table>")[0].split("<tr>")[2:]
    assert [row.split("<td>")[1:5:3] for row in table] == [
        [f"{name}</td>", f"{100 * reward:.1f}</td>"] for name, _, reward in rows
    ]
    assert "other pass@1, 95 % interval" in page  # the legend of the learning curve
    assert "This run trains on" not in page


def test_the_report_says_which_tasks_measure_nothing(config: Config, run: RunDir, tmp_path: Path) -> None:
    words = [f"tasks.path={tmp_path}", "tasks.purpose=train"]
    trained = configuration.changed(config, ["tasks=gaia-validation", *words])
    folder = tmp_path / "2023" / "validation"
    folder.mkdir(parents=True)
    row = '{"task_id": "a", "Question": "?", "Level": 1, "Final answer": "4", "file_name": ""}\n'
    (folder / "metadata.jsonl").write_text(row)
    publish_text(run.config, configuration.to_yaml(trained))
    assert report(trained, run)["trained_on"] == "gaia-validation"
    assert "This run trains on gaia-validation: a figure on these tasks" in (run.root / "report.html").read_text()
