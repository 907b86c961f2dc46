"""Which tasks a round gets, and in which order they are played."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from aworld import config as configuration
from aworld.errors import InputError
from aworld.phase import Phase
from aworld.rollout.units import units
from aworld.rollout.workload import Workload, evaluation_workload, round_workload, schedule, shares
from aworld.rundir import RunDir
from aworld.tasks.synthetic import SyntheticTasks
from aworld.tasks.task import Task
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import Context, Episode
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit


def test_no_round_holds_a_task_twice_and_every_pass_holds_all(tmp_path: Path) -> None:
    words = ["recipe=demo", "tasks.train=16", "tasks.held_out=2", "training.cold_start.tasks=0"]
    config = configuration.load([*words, "rollout.tasks_per_round=6"])
    source = SyntheticTasks(config.tasks, tmp_path / "tasks")
    rounds = [round_workload(config, RunDir(tmp_path), source, number).tasks for number in range(1, 9)]
    assert all(len({task.task_id for task in tasks}) == 6 for tasks in rounds)
    counts = Counter(task.task_id for tasks in rounds for task in tasks)
    assert set(counts.values()) == {3}  # 8 × 6 = 3 × 16


FIRST_ROUNDS = ["03 08 04 02 05 15", "01 00 14 09 13 12", "06 11 07 10 15 03", "07 02 08 13 12 01"]


def test_further_tasks_stand_behind_those_of_a_round_and_change_nothing_where_there_are_none(tmp_path: Path) -> None:
    words = ["recipe=demo", "seed=0", "tasks.train=16", "tasks.held_out=2", "training.cold_start.tasks=0"]

    def rounds(*more: str) -> list[Workload]:
        config = configuration.load([*words, "pipeline.rounds=4", "rollout.tasks_per_round=6", *more])
        found = schedule(config, RunDir(tmp_path), SyntheticTasks(config.tasks, tmp_path / "tasks"))
        return [workload for workload in found if workload.phase is Phase.ROUND]

    def names(workload: Workload) -> list[str]:
        return [task.task_id[-2:] for task in workload.tasks]

    assert [" ".join(names(workload)) for workload in rounds()] == FIRST_ROUNDS
    assert {workload.enough for workload in rounds()} == {None}
    doubled = rounds("rollout.oversample=2")
    assert all(workload.enough == 6 and len(set(names(workload))) == 12 for workload in doubled)
    assert names(doubled[0])[:6] == FIRST_ROUNDS[0].split()
    assert [unit.task_id[-2:] for unit in units(doubled[0])][6:] == names(doubled[0])[6:]  # easy or hard
    assert {len(workload.tasks) for workload in rounds("rollout.oversample=9")} == {16}  # all that there are


def test_an_evaluation_samples_at_the_agents_temperature_unless_it_has_its_own(tmp_path: Path) -> None:
    def temperature(*words: str) -> float:
        config = configuration.load(["recipe=demo", "tasks.train=2", "tasks.held_out=2", *words])
        source = SyntheticTasks(config.tasks, tmp_path / "tasks")
        return evaluation_workload(config, RunDir(tmp_path), source, 0).temperature

    assert temperature() == 1.0
    assert temperature("agent.temperature=0.6") == 0.6
    assert temperature("agent.temperature=0.6", "evaluation.temperature=0") == 0.0


@pytest.mark.parametrize(
    ("words", "order"),
    [
        ([], "held-out-0 r1 r2 r3 r4 r5 held-out-5"),
        (["pipeline.evaluate_every=2"], "held-out-0 r1 r2 held-out-2 r3 r4 held-out-4 r5 held-out-5"),
        (
            ["pipeline.evaluate_every=2", "pipeline.max_lag=1"],  # round 3 need not wait for policy 2
            "held-out-0 r1 r2 r3 held-out-2 r4 r5 held-out-4 held-out-5",
        ),
        (["pipeline.evaluate_every=9"], "held-out-0 r1 r2 r3 r4 r5 held-out-5"),
        (["pipeline.evaluate_every=2", "pipeline.evaluations=[]"], "r1 r2 r3 r4 r5"),
    ],
)
def test_the_workers_evaluate_a_policy_once_no_round_can_do_without_it(
    words: list[str], order: str, tmp_path: Path
) -> None:
    base = ["recipe=demo", "tasks.train=2", "tasks.held_out=2", "training.cold_start.tasks=0", "pipeline.rounds=5"]
    config = configuration.load([*base, *words])
    source = SyntheticTasks(config.tasks, tmp_path / "tasks")
    names = [workload.name.replace("round ", "r") for workload in schedule(config, RunDir(tmp_path), source)]
    assert " ".join(names) == order


class Counted:
    """Tasks that are counted whenever they are asked for."""

    corpus = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def tasks(self, split: str) -> list[Task]:
        self.asked.append(split)
        return [Task(f"{split}-{number}", "?", "!", 1) for number in range(30)]

    def score(self, answer: str | None, task: Task) -> float:
        return 0.0


def test_a_schedule_of_five_hundred_rounds_reads_the_tasks_once(tmp_path: Path) -> None:
    words = ["recipe=demo", "training.cold_start.tasks=0", "pipeline.rounds=500", "pipeline.evaluate_every=1"]
    source = Counted()
    found = schedule(configuration.load([*words, "rollout.tasks_per_round=10"]), RunDir(tmp_path), source)
    assert len(found) == 1001 and sorted(source.asked) == ["held_out", "train"]
    assert max(len(workload.earlier) for workload in found) == 5
    (last,) = (workload for workload in found if workload.name == "round 500")
    assert last.earlier[0] == RunDir(tmp_path).trajectories(499)


def an_episode(task: str, level: int, attempt: int, seconds: float) -> Episode:
    phases = {"wait": 100.0 - level, "generate": seconds / 2, "tools": seconds / 2}
    return Episode(
        *(1, task, attempt, level, "", [1, 2], [0, 1], [0.0, -1.0], [], None, 0.0, "answered", phases, 0, 0, {}),
        contexts=[Context("solver")],
    )


def test_the_longest_expected_comes_first(tmp_path: Path) -> None:
    """By what the last round took: the task itself, else its level, else one cannot know; a wait does not count."""
    tasks = [Task(name, "", "", level) for name, level in (("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3), ("f", 2))]
    gone, path = tmp_path / "gone.h5", tmp_path / "trajectories.h5"
    workload = Workload(Phase.ROUND, "round 2", tmp_path, 2, tasks, 2, 1.0, range(1, 2), (gone, path))

    def order() -> str:
        return "".join(unit.task_id for unit in units(workload))

    assert order() == "ecdfab"  # nothing is known: by level
    played = [("a", 1, 0, 30), ("a", 1, 1, 50), ("x", 1, 0, 1), ("c", 2, 0, 10), ("y", 2, 0, 20)]
    file.write(path, arrays.from_episodes(1, [an_episode(*row) for row in played]))
    # e: of a level unknown; a: 40; b: its level's (30 + 50 + 1) / 3; d, f: 15; c: 10
    assert order() == "eabdfc"
    (tmp_path / "seconds.json").unlink()
    path.write_bytes(b"damaged")
    assert order() == "ecdfab"


def test_a_task_is_expected_to_take_what_it_took_in_whichever_round_it_was_last(tmp_path: Path) -> None:
    run = RunDir(tmp_path)

    def gather(number: int, **seconds: float) -> None:
        run.round(number).mkdir(parents=True)
        played = [an_episode(task, 1, 0, length) for task, length in seconds.items()]
        file.write(run.trajectories(number), arrays.from_episodes(number, played))

    def order(number: int, *earlier: int) -> str:
        tasks, paths = [Task(name, "", "", 1) for name in "abcd"], tuple(map(run.trajectories, earlier))
        workload = Workload(Phase.ROUND, "", run.round(number), number, tasks, 2, 1.0, range(1), paths)
        return "".join(unit.task_id for unit in units(workload))

    gather(1, a=10, b=60)
    assert order(2, 1) == "bcda"  # c and d: 35, as the others of their level
    gather(2, c=30, d=5)
    gather(3, a=100)
    assert order(5, 4, 3, 2, 1) == "abcd"  # the gathering of round 4 is under way
    run.trajectories(1).unlink()
    run.trajectories(2).unlink()
    gather(4, d=70)
    assert order(5, 4, 3, 2, 1) == "adbc"  # the table after round 3 knows the rounds before
    gather(5, x=1)
    assert order(6, 5, 4, 3, 2, 1) == "adbc"
    assert [path.parent.name for path in sorted(tmp_path.glob("rounds/*/seconds.json"))] == ["0004", "0005"]


def test_of_an_evaluation_an_earlier_one_of_the_same_tasks_tells_the_longest(tmp_path: Path) -> None:
    """The newest policy before it that was evaluated to the end, else the first after it; the rounds tell the rest."""
    place = tmp_path / "evals" / "own"

    def played(version: int, is_closed: bool, **seconds: float) -> None:
        with Journal(place / f"{version:04d}" / "journals" / "worker-0.journal") as log:
            for task, length in seconds.items():
                log.append(an_episode(task, 1, 0, length))
            log.append(replace(an_episode("b", 1, 1, 1000.0), status="infra_error"))
        if is_closed:
            (place / f"{version:04d}" / "timing.json").write_text("{}")

    def order(version: int) -> str:
        folder, tasks = place / f"{version:04d}", [Task(name, "", "", 1) for name in "abcd"]
        path = tmp_path / "trajectories.h5"
        own = range(version, version + 1)
        found = Workload(Phase.EVALUATION, "own", folder, version, tasks, 2, 1.0, own, (path,), benchmark="own")
        return "".join(unit.task_id for unit in units(found))

    file.write(tmp_path / "trajectories.h5", arrays.from_episodes(1, [an_episode("d", 1, 0, 25.0)]))
    assert order(3) == "abcd"  # 25 each
    played(5, True, a=10, b=20, c=30)
    assert order(3) == order(5 + 1) == "cdba"
    played(1, True, a=30, b=20, c=10)
    assert order(3) == "adbc" and order(6) == "cdba"
    played(2, False, c=100)
    assert order(3) == "adbc"  # it is still played


def test_each_round_has_of_each_part_of_a_mixture_what_its_weight_says(tmp_path: Path) -> None:
    parts = {"many": (20, 3), "few": (6, 1), "one": (1, 2)}
    words = [f"tasks.mixture.{name}={{source: jsonl, weight: {weight}}}" for name, (_, weight) in parts.items()]
    more = ["tasks=mixture", "training.cold_start.tasks=0", "rollout.tasks_per_round=9", "pipeline.rounds=20"]
    config = configuration.load(["recipe=demo", *more, *words])
    tasks = [Task(f"{name}/{n}", "?", "4", 1, source=name) for name, (size, _) in parts.items() for n in range(size)]
    source = SimpleNamespace(tasks=lambda split: tasks)
    found = schedule(config, RunDir(tmp_path), source)  # type: ignore[arg-type]
    rounds = [workload.tasks for workload in found if workload.phase is Phase.ROUND]
    counts = [Counter(task.source for task in chosen) for chosen in rounds]
    assert counts == [Counter(many=6, few=2, one=1)] * 20  # one has a task, not three: the others share the rest by 3:1
    assert all(len({task.task_id for task in chosen}) == 9 for chosen in rounds)
    played = Counter(task.task_id for chosen in rounds for task in chosen)
    assert {played[f"many/{n}"] for n in range(20)} == {6}  # 20 × 6 = 6 × 20: no task waits for ever
    first = Counter(chosen[0].source for chosen in rounds)
    assert len(first) == 3  # the parts are mixed, so that with oversample each has some of the first tasks
    config.training.cold_start.tasks = 26  # all of many and few: of the whole only `one` would be left
    found = schedule(config, RunDir(tmp_path), source)  # type: ignore[arg-type]
    assert all(Counter(t.source for t in w.tasks) == counts[0] for w in found if w.phase is Phase.ROUND)
    config.training.cold_start.tasks = 0
    config.tasks.mixture["few"].weight = 0.01
    with pytest.raises(InputError, match=r"tasks\.mixture\.few\.weight=0\.01 is no task of the 9 of a round; raise it"):
        list(schedule(config, RunDir(tmp_path), source))  # type: ignore[arg-type]


def test_shares_are_whole_and_sum_up() -> None:
    assert shares({"a": 1, "b": 1, "c": 1}, {"a": 9, "b": 9, "c": 9}, 8) == {"a": 3, "b": 3, "c": 2}
    assert shares({"a": 1, "b": 3}, {"a": 0, "b": 9}, 4) == {"a": 0, "b": 4}
    assert shares({"a": 0.001, "b": 1}, {"a": 9, "b": 3}, 8) == {"a": 5, "b": 3}
