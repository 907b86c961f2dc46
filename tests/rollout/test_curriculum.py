"""The curriculum: the tasks of a round by earlier rewards, the same after a kill, and with more to learn from."""

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.phase import Phase
from aworld.publish import publish_json
from aworld.rollout.curriculum import MEASURED, TASKS, Choice, Measured, choose, fold
from aworld.rollout.units import units
from aworld.rollout.workload import Workload, round_workload, schedule
from aworld.rundir import RunDir
from aworld.tasks.synthetic import SyntheticTasks
from aworld.tasks.task import Task
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import Context, Episode

pytestmark = pytest.mark.unit
TASKS_OF_TEN = [Task(f"t{number}", "?", "!", 1) for number in range(10)]
ATTEMPTS = 4


def chosen(number: int, table: dict[str, Measured], count: int = 4, in_hand: set[str] = frozenset()) -> list[str]:
    return [task.task_id for task in choose(TASKS_OF_TEN, count, 0, number, table, in_hand, rest_rounds=2)]


def test_rewards_fold_into_a_table_of_the_last_measurement() -> None:
    table = fold({}, 1, {"a": [0, 0, 0], "b": [0, 1], "c": [1.0], "d": []})
    assert table == {"a": Measured(1, 3, 0.0, 1), "b": Measured(1, 2, 0.5, 0)}  # one attempt measures nothing
    table = fold(table, 4, {"a": [0, 0], "b": [0.5, 0.5]})
    assert table == {"a": Measured(4, 2, 0.0, 2), "b": Measured(4, 2, 0.5, 1)}
    assert fold(table, 9, {"a": [0, 1]})["a"] == Measured(9, 2, 0.5, 0)


def test_a_task_of_one_reward_rests_and_comes_back_twice_as_late_each_time() -> None:
    spread = {f"t{number}": Measured(1, 4, 0.5, 0) for number in range(1, 10)}
    for alike, rest in ((1, 2), (2, 4), (3, 8)):
        table = spread | {"t0": Measured(1, 4, 1.0, alike)}
        there = [number for number in range(2, 15) if "t0" in chosen(number, table, count=9)]
        at_first = [number for number in range(2, 15) if number > 1 + rest]
        assert set(there) <= set(at_first)
        assert chosen(1 + rest, table, count=10)[-1] == "t0"  # it fills a round that would be short


def test_tasks_come_in_turn_and_those_in_hand_last() -> None:
    first = chosen(1, {})
    table = fold({}, 1, {name: [0, 1] for name in first})
    second = chosen(2, table)
    assert not {*first} & {*second}
    assert {*chosen(3, fold(table, 2, {name: [0, 1] for name in second}), count=10)[2:6]} == {*first}
    late = chosen(2, {}, count=10, in_hand={*first})  # round 1 is not gathered yet
    assert {*late[-4:]} == {*first}
    assert chosen(1, {}) != chosen(2, {})[:4]


def test_the_share_of_groups_with_both_rewards_rises() -> None:
    """Synthetic tasks in four kinds: never solved, always, and two that learn slowly. Round after round of 32 tasks."""
    tasks = [Task(f"t{number:03d}", "?", "!", 1) for number in range(256)]

    def solved(name: str, number: int, attempt: int) -> float:
        kind = int(name[1:]) % 4
        chance = (0.0, 1.0, min(0.9, 0.05 + 0.01 * number), 0.4)[kind]
        return float(random.Random(f"{name}/{number}/{attempt}").random() < chance)

    def share(rest_rounds: int) -> float:
        table, with_both = {}, []
        for number in range(1, 61):
            names = [task.task_id for task in choose(tasks, 32, 0, number, table, frozenset(), rest_rounds)]
            rewards = {name: [solved(name, number, attempt) for attempt in range(8)] for name in names}
            with_both += [len(set(each)) > 1 for each in rewards.values()]
            table = fold(table, number, rewards)
        return float(np.mean(with_both))

    without, with_rest = share(0), share(8)
    assert 0.4 < without < 0.5
    assert with_rest > without + 0.2


def config_of(*words: str) -> Config:
    base = ["recipe=demo", "tasks.train=24", "tasks.held_out=2", "training.cold_start.tasks=0"]
    given = ["rollout.tasks_per_round=6", f"rollout.group_size={ATTEMPTS}", "rollout.rest_passes=2"]
    return configuration.load([*base, *given, *words])


def gather(run: RunDir, number: int, names: list[str]) -> None:
    """The round's trajectories. Odd tasks are always solved, but for an attempt that was lost to the machine."""
    episodes = []
    for name in sorted(names):
        always = int(name[-2:]) % 2
        for attempt in range(ATTEMPTS):
            reward, status = float((always and attempt > 0) or attempt > 1), "answered"
            if always and not attempt:
                status = "infra_error"
            tokens = [1, 2], [0, 1], [0.0, -1.0]
            facts = [], None, reward, status, {"total": 1.0}, number - 1, 0, {}
            episodes.append(Episode(number, name, attempt, 1, "", *tokens, *facts, contexts=[Context("solver")]))
    run.round(number).mkdir(parents=True, exist_ok=True)
    publish_json(run.round(number) / "rewards.json", {"parts": {}, "not_scored": {}})  # as the gather does
    file.write(run.trajectories(number), arrays.from_episodes(number, episodes))


def play(config: Config, run: RunDir, source: SyntheticTasks, rounds: range) -> list[list[str]]:
    """The tasks of these rounds, each gathered before the next one begins."""
    found = []
    for number in rounds:
        workload = round_workload(config, run, source, number)
        assert isinstance(workload.tasks, Choice) and workload.tasks.settle()
        found.append([task.task_id for task in workload.tasks])
        gather(run, number, found[-1])
    return found


def test_a_run_leaves_out_what_is_always_solved_and_a_new_process_chooses_the_same(tmp_path: Path) -> None:
    config, run = config_of(), RunDir(tmp_path / "run")
    source = SyntheticTasks(config.tasks, tmp_path / "tasks")
    rounds = play(config, run, source, range(1, 9))
    assert all(len({*names}) == 6 for names in rounds)
    assert {name for names in rounds[:4] for name in names} == {task.task_id for task in source.tasks("train")}
    last = {name: number for number, names in enumerate(rounds, 1) for name in names}
    odd = [name for name in last if int(name[-2:]) % 2]
    table = json.loads((run.round(7) / MEASURED).read_text())
    assert all(table[name][1:3] == [3, 1.0] and table[name][3] >= 1 for name in odd)  # without the lost attempt
    plays = Counter(name for names in rounds for name in names)
    assert {plays[name] for name in odd} == {1} and min(plays[name] for name in last if name not in odd) == 3
    assert all(not {*odd} & {*names} for names in rounds[4:])

    for path in (run.round(8) / TASKS, run.round(7) / MEASURED):  # killed before they were written
        path.unlink()
    for number in range(1, 7):  # of earlier rounds nothing is read but the newest table
        run.trajectories(number).unlink()
        assert (run.round(number) / MEASURED).exists() == (number > 2)
        if number < 6:
            (run.round(number) / MEASURED).unlink(missing_ok=True)
    assert [task.task_id for task in round_workload(config, run, source, 8).tasks] == rounds[7]  # who only looks on
    assert not (run.round(8) / TASKS).exists()
    assert play(config, run, source, range(8, 9)) == rounds[7:]
    assert json.loads((run.round(7) / MEASURED).read_text()) == table


def test_with_a_lag_a_round_goes_by_what_is_gathered_and_leaves_out_what_is_in_hand(tmp_path: Path) -> None:
    config, run = config_of("pipeline.max_lag=1"), RunDir(tmp_path / "run")
    source = SyntheticTasks(config.tasks, tmp_path / "tasks")
    first, second, third = (round_workload(config, run, source, number) for number in (1, 2, 3))
    assert first.tasks.settle() and second.tasks.settle() and not third.tasks.settle()
    assert not {*map(id, first.tasks)} & {*map(id, second.tasks)}
    assert len(third.tasks) == 6 and len(units(third)) == 6 and not third.folder.exists()  # others stand for them
    assert third.tasks.awaited == run.trajectories(1)
    gather(run, 1, [task.task_id for task in first.tasks])
    assert third.tasks.settle()
    names = [{task.task_id for task in each.tasks} for each in (first, second, third)]
    assert not names[2] & names[1] and not names[2] & names[0]
    assert [task.task_id for task in third.tasks] == json.loads((third.folder / TASKS).read_text())


def test_every_round_of_a_schedule_has_its_tasks_and_the_further_ones(tmp_path: Path) -> None:
    config, run = config_of("rollout.oversample=2", "pipeline.rounds=3"), RunDir(tmp_path / "run")
    source = SyntheticTasks(config.tasks, tmp_path / "tasks")
    found: list[Workload] = [each for each in schedule(config, run, source) if each.phase is Phase.ROUND]
    assert [(len(each.tasks), each.enough) for each in found] == [(12, 6)] * 3
    assert len({task.task_id for task in found[0].tasks}) == 12


def test_parts_of_the_tasks_keep_their_shares(tmp_path: Path) -> None:
    config, run = config_of(), RunDir(tmp_path / "run")
    many, few = TASKS_OF_TEN, [Task(f"few-{number}", "?", "!", 1) for number in range(4)]
    rounds = [Choice(config, run, [(many, 4), (few, 1)], number) for number in (1, 2)]
    assert all(len(each) == 5 for each in rounds)
    names = [task.task_id for task in rounds[0]]
    assert sum(name.startswith("few") for name in names) == 1 and names == [task.task_id for task in rounds[0]]
    assert not rounds[1].settle()
