"""A worker at real journals, claims and sandboxes: what is played again, what never is, and what is recorded."""

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_model import Model

from aworld import config as configuration
from aworld import openai_client
from aworld.agents.protocols import Environment
from aworld.config import Endpoint, Rollout
from aworld.config import Environment as World
from aworld.containers import no_apptainer
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, choose
from aworld.environments.scorer import Scorer
from aworld.errors import InfrastructureError
from aworld.phase import Phase
from aworld.rollout import worker
from aworld.rollout.claims import Claims, Unit
from aworld.rollout.outcome import look
from aworld.rollout.players import Player
from aworld.rollout.scoring import Scoring
from aworld.rollout.units import claims_of, reopen_failed, standing, units, units_left
from aworld.rollout.worker import Worker
from aworld.rollout.workload import Workload
from aworld.tasks.judge import Judge
from aworld.tasks.rewards import AnswerReward, OwnReward
from aworld.tasks.task import Container, Program, Task, Worth
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

pytestmark = pytest.mark.tools
TASKS = [Task(name, f"What is {name}?", "42", 1) for name in ("a", "b")]


def evaluation(folder: Path, tasks: list[Task] = TASKS, attempts: int = 1, phase: Phase = Phase.EVALUATION) -> Workload:
    return Workload(phase, "evaluation 3", folder, 3, tasks, attempts, 1.0, range(3, 4))


class Script:
    """A Player that runs a command in its sandbox and fails as often as it is told to; it knows what it played."""

    def __init__(self, failures: dict[str, int] | None = None, answer: str = "42"):
        self.failures, self.answer = dict(failures or {}), answer
        self.played: Counter[tuple[str, int]] = Counter()
        self.times: list[float] = []

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        self.played[task.task_id, attempt] += 1
        self.times.append(time.monotonic())
        seen = await environment.call("python", {"code": f"print({self.answer})"})
        fails = self.failures.get(task.task_id, 0) > 0
        self.failures[task.task_id] = self.failures.get(task.task_id, 0) - 1
        return episode(task, attempt, None if fails else seen.text, "the model is away" if fails else "")


def episode(task: Task, attempt: int, answer: str | None, error: str = "") -> Episode:
    return Episode(
        round=3,
        task_id=task.task_id,
        attempt=attempt,
        level=1,
        question=task.question,
        token_ids=[1, 2],
        mask=[0, 1],
        logprobs=[0.0, -0.5],
        turns=[],
        answer=answer,
        reward=0.0,
        status="infra_error" if error else "answered",
        seconds={"total": 1.0},
        policy_version=3,
        seed=0,
        error=error,
    )


def score(answer: str | None, task: Task) -> float:
    return float(answer == task.answer)


async def no_program(program: Program) -> Worth:
    raise AssertionError(program)


def play(
    workload: Workload,
    player: Player,
    scratch: Path,
    score: Callable[[str | None, Task], float] = score,
    sandbox: Sandbox | None = None,
    owner: str = "worker-0",
    servers: Sequence[str] = ("python",),
    **settings: float,
) -> None:
    """What a process of the array does."""

    async def story() -> None:
        config = configuration.load(["recipe=demo", "seed=0"])
        config.environment = World(servers=list(servers), slots=2, reuse="reset")
        config.rollout = Rollout(**{"lease_seconds": 60, "infra_retries": 2, **settings})  # type: ignore[arg-type]
        async with EnvironmentPool(config.environment, sandbox or choose("auto", ""), None, scratch) as pool:
            scoring = Scoring(AnswerReward(score), lambda task: 60.0, no_program)
            await Worker(config, workload, player, pool, scoring, owner).run()

    asyncio.run(story())


def written(workload: Workload) -> list[Episode]:
    """Every record of every journal, doubles included."""
    return [e for path in (workload.folder / "journals").glob("*.journal") for e in journal.read(path)]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PAUSE", 0.2)
    monkeypatch.setattr(worker, "LONGEST_PAUSE", 0.3)
    monkeypatch.setattr(openai_client, "PAUSE", 0.1)


def test_an_infrastructure_failure_is_tried_again_ever_later_and_recorded_once(tmp_path: Path) -> None:
    workload, player = evaluation(tmp_path / "e", TASKS[:1]), Script({"a": 3})
    play(workload, player, tmp_path, infra_retries=3)
    (record,) = written(workload)
    assert (record.status, record.answer, record.reward, record.error) == ("answered", "42", 1.0, "")
    assert player.played == {("a", 0): 4}
    pauses = [later - earlier for earlier, later in zip(player.times, player.times[1:], strict=False)]
    assert pauses[0] >= 0.2 and min(pauses[1:]) >= 0.3  # 0.4 and 0.8 are more than the longest


def test_no_more_is_claimed_than_there_are_slots(tmp_path: Path) -> None:
    """A unit that waits for a slot here could be played by another worker."""
    workload = evaluation(tmp_path / "e", [Task(str(number), "?", "42", 1) for number in range(6)])
    seen = []

    class Watchful(Script):
        async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
            found = await super().play(task, attempt, seed, environment)
            marks = claims_of(workload).marks()
            seen.append(len(marks.newest.keys() - marks.done))
            return found

    play(workload, Watchful(), tmp_path)
    assert len(seen) == 6 and max(seen) <= 3  # the third one is being recorded


def test_the_wait_for_a_sandbox_within_an_episode_is_lost_time() -> None:
    played = {"generate": 4.0, "tools": 3.0, "stalled": 1.0, "total": 8.0}
    assert worker._without_wait(played, 2.0, 0.5) == played | {"tools": 1.0, "stalled": 3.0, "wait": 0.5}


def test_a_wrong_answer_is_played_once_and_never_again(tmp_path: Path) -> None:
    workload, player = evaluation(tmp_path / "e", attempts=2), Script(answer="41")
    for _ in range(2):
        play(workload, player, tmp_path)
        reopen_failed(workload)
    assert [(e.status, e.reward) for e in written(workload)] == [("answered", 0.0)] * 4
    assert set(player.played.values()) == {1}


def test_more_attempts_are_played_beside_those_that_there_are(tmp_path: Path) -> None:
    few, many, player = evaluation(tmp_path / "e"), evaluation(tmp_path / "e", attempts=3), Script()
    play(few, player, tmp_path)
    play(many, player, tmp_path)
    assert units_left(many) == [] and len(written(many)) == 6
    assert player.played == {(task.task_id, attempt): 1 for task in TASKS for attempt in range(3)}


def test_beyond_the_cap_the_failure_is_recorded_with_its_reason(tmp_path: Path) -> None:
    workload, player = evaluation(tmp_path / "e"), Script({"a": 99})
    play(workload, player, tmp_path, infra_retries=1)
    found = {e.task_id: (e.status, e.reward, e.error) for e in written(workload)}
    assert found == {"a": ("infra_error", 0.0, "the model is away"), "b": ("answered", 1.0, "")}
    assert player.played == {("a", 0): 2, ("b", 0): 1} and units_left(workload) == []


@pytest.mark.parametrize("error", ["", "the model is away"])
def test_no_answer_is_worth_nothing_whatever_the_scorer_makes_of_it(tmp_path: Path, error: str) -> None:
    class Silent:
        async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
            return episode(task, attempt, None, error)

    workload = evaluation(tmp_path / "e")
    play(workload, Silent(), tmp_path, lambda answer, task: 1.0, infra_retries=0)
    assert [e.reward for e in written(workload)] == [0.0, 0.0]


def test_a_resume_plays_failures_again_and_nothing_else(tmp_path: Path) -> None:
    workload = evaluation(tmp_path / "e", attempts=2)
    play(workload, Script({"a": 99}), tmp_path, infra_retries=0)
    untold = Script()
    play(workload, untold, tmp_path, owner="worker-1")  # a worker that comes later is no resume
    assert not untold.played
    reopen_failed(workload)
    assert [unit.task_id for unit in units_left(workload)] == ["a"]
    again = Script({"a": 1})
    play(workload, again, tmp_path, owner="worker-1", infra_retries=0)
    assert again.played == {("a", 0): 1, ("a", 1): 1}
    reopen_failed(workload)
    last = Script()
    play(workload, last, tmp_path, infra_retries=0)
    assert last.played.total() == 1
    best = journal.collect(workload.folder / "journals")
    assert [(e.task_id, e.status, e.reward) for e in best] == [(n, "answered", 1.0) for n in "aabb"]
    assert len(written(workload)) == 4 + 2 + 1


class Graded(Script):
    """It answers all attempts at the tasks of `same` alike. Where it is told to, it kills its process in the midst."""

    def __init__(self, same: str, dies_at: tuple[str, int] | None = None):
        super().__init__()
        self.same, self.dies_at = same, dies_at

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        if (task.task_id, attempt) == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.answer = "42" if attempt == 0 or task.task_id in self.same else "41"
        return await super().play(task, attempt, seed, environment)


def test_other_tasks_are_played_in_the_place_of_those_of_one_reward(tmp_path: Path) -> None:
    """Also where a worker is killed in the midst of such a task, and comes back."""
    tasks = [Task(name, f"What is {name}?", "42", 1) for name in "abcdef"]
    workload = replace(evaluation(tmp_path / "e", tasks, attempts=2, phase=Phase.ROUND), enough=2)
    same = "ac"
    dying = multiprocessing.get_context("fork").Process(
        target=play, args=(workload, Graded(same, dies_at=("c", 1)), tmp_path), kwargs={"owner": "worker-1"}
    )
    dying.start()
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    play(workload, Graded(same), tmp_path)  # another, who finds the dead one's claims held
    assert not standing(workload).is_played
    play(workload, Graded(same), tmp_path, owner="worker-1")
    seen = standing(workload)
    assert seen.is_played and sorted(unit.task_id for unit in seen.units) == list("abcd") and not units_left(workload)
    assert sorted(unit.task_id for unit in seen.of_one_reward) == list(same)
    assert Counter((e.task_id, e.attempt) for e in written(workload)) == {(n, a): 1 for n in "abcd" for a in range(2)}


def test_a_round_goes_on_without_what_failed(tmp_path: Path) -> None:
    workload = evaluation(tmp_path / "e", phase=Phase.ROUND)
    play(workload, Script({"a": 99}), tmp_path, infra_retries=0)
    reopen_failed(workload)
    assert units_left(workload) == []
    player = Script()
    play(workload, player, tmp_path)
    assert not player.played


def test_an_image_that_does_not_start_costs_its_task_alone_but_a_node_where_none_starts_ends_the_worker(
    tmp_path: Path,
) -> None:
    if reason := no_apptainer():
        pytest.skip(reason)
    (tmp_path / "torn.sif").write_bytes(b"no image")
    torn = Container(tmp_path / "torn.sif", "/", tmp_path)
    workload = evaluation(tmp_path / "1", [replace(TASKS[0], container=torn), TASKS[1]])
    play(workload, Script(), tmp_path, servers=["terminal"], infra_retries=0)
    found = {e.task_id: e for e in written(workload)}
    assert (found["a"].status, found["a"].reward, found["b"].status) == ("infra_error", 0.0, "answered")
    assert "torn.sif: an environment did not start" in found["a"].error and units_left(workload) == []
    nowhere = evaluation(tmp_path / "2", [replace(TASKS[0], task_id=name, container=torn) for name in "abcdef"])
    with pytest.raises(InfrastructureError, match=r"torn\.sif: an environment did not start"):
        play(nowhere, Script(), tmp_path, servers=["terminal"], infra_retries=0)
    assert len(written(nowhere)) == 3


def test_a_sandbox_that_starts_late_is_waited_for_and_one_that_never_does_ends_the_worker(tmp_path: Path) -> None:
    class Late:
        """The real one, whose first `failures` servers end at once."""

        name, gaps = "late", ()

        def __init__(self, failures: int):
            self.failures, self.real = failures, choose("auto", "")
            self.python = self.real.python

        def launch(self, argv, contents):  # type: ignore[no-untyped-def]
            self.failures -= 1
            return self.real.launch(["false"] if self.failures >= 0 else argv, contents)

    workload, player = evaluation(tmp_path / "1"), Script()
    play(workload, player, tmp_path, sandbox=Late(3), infra_retries=4)
    assert [e.status for e in written(workload)] == ["answered"] * 2 and set(player.played.values()) == {1}
    with pytest.raises(InfrastructureError):
        play(evaluation(tmp_path / "2"), player, tmp_path, sandbox=Late(99), infra_retries=1)
    assert written(evaluation(tmp_path / "2")) == []


def judged(model: str, address: str) -> Callable[[str | None, Task], float]:
    judge = Judge(Endpoint(model=model, base_url=address))
    return lambda answer, task: float(judge.agrees(task.question, answer or "", task.answer or ""))


def test_an_answer_that_cannot_be_scored_is_kept_and_the_others_go_on(tmp_path: Path) -> None:
    def says(body: dict[str, Any]) -> dict[str, Any]:
        return {"content": "correct: maybe" if "What is a?" in str(body) else "correct: yes"}

    workload, player = evaluation(tmp_path / "e"), Script()
    with Model(says) as model:
        play(workload, player, tmp_path, judged("judge", model.address))
        model.shutdown()
    kept, other = sorted(written(workload), key=lambda e: e.task_id)
    assert (kept.status, kept.reward) == ("infra_error", 0.0)
    assert "gave no verdict: its reply does not end with one" in kept.error
    assert (kept.answer, kept.token_ids, other.reward) == ("42", [1, 2], 1.0)
    assert set(player.played.values()) == {1}


def test_slow_scorers_keep_nobody_waiting_but_their_own_episodes(tmp_path: Path) -> None:
    """None of them ends before all episodes that may wait are played, each of which needs threads of asyncio's."""
    number = 2 * worker.UNSCORED  # of two slots
    workload, player = evaluation(tmp_path / "e", attempts=number // 2), Script()

    def slow(answer: str | None, task: Task) -> float:
        give_up = time.monotonic() + 60
        while len(player.played) < number and time.monotonic() < give_up:
            time.sleep(0.01)
        return float(len(player.played) == number)

    play(workload, player, tmp_path, slow)
    records = written(workload)
    assert [e.reward for e in records] == [1.0] * number
    assert max(e.seconds["wait"] for e in records) > 0.0 and {e.seconds["total"] for e in records} == {1.0}


def test_a_scorer_that_fails_costs_the_answer_and_not_the_worker(tmp_path: Path) -> None:
    def fails(answer: str | None, task: Task) -> float:
        return 1.0 if task.task_id == "b" else float("forty-two")

    play(evaluation(tmp_path / "e"), Script(), tmp_path, fails)
    found = {e.task_id: (e.status, e.reward) for e in written(evaluation(tmp_path / "e"))}
    assert found == {"a": ("infra_error", 0.0), "b": ("answered", 1.0)}


def test_without_a_judge_the_worker_ends_and_the_answer_is_not_recorded(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = judged("judge", f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        with pytest.raises(InfrastructureError, match=r"the judge at .* is away"):
            play(evaluation(tmp_path / "e"), Script(), tmp_path, away)
    assert written(evaluation(tmp_path / "e")) == []


def test_what_a_dead_worker_finished_after_we_came_is_not_played_again(tmp_path: Path) -> None:
    """It has claimed a unit before we come, finishes an attempt of it while we play another one, and dies."""
    workload = evaluation(tmp_path / "e", attempts=2)
    other = Claims(workload.folder / "claims", "worker-1", 60)
    assert other.claim(units(workload)[1:])

    class Ours(Script):
        async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
            if task.task_id == "a" and attempt == 0:
                with journal.Journal(workload.folder / "journals" / "worker-1.journal") as log:
                    log.append(episode(TASKS[1], 0, "41"))
                other.release(units(workload)[1])  # as if the lease were over
            return await super().play(task, attempt, seed, environment)

    player = Ours()
    play(workload, player, tmp_path)
    assert player.played == {("a", 0): 1, ("a", 1): 1, ("b", 1): 1}
    assert Counter(e.identity[1:] for e in written(workload)) == dict.fromkeys(
        [(n, a) for n in "ab" for a in (0, 1)], 1
    )


def test_a_unit_that_was_taken_over_is_left_to_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = evaluation(tmp_path / "e", TASKS[:1])
    unit = Unit("a", (0,))

    class Slow(Script):
        async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
            if not self.played:  # we were asleep for longer than the lease, and another took the unit
                (workload.folder / "claims" / f"{unit.key}.2.claim").write_text("worker-1")
                self.played[task.task_id, attempt] += 1
                try:
                    await asyncio.sleep(60)
                finally:
                    stopped.set()
            return await super().play(task, attempt, seed, environment)

    slow, stopped = Slow(), threading.Event()
    ours = threading.Thread(target=play, args=(workload, slow, tmp_path), kwargs={"lease_seconds": 60})
    monkeypatch.setattr(worker, "RENEWALS", 600)  # per lease
    ours.start()
    assert stopped.wait(30)
    with journal.Journal(workload.folder / "journals" / "worker-1.journal") as log:
        log.append(episode(TASKS[0], 0, "42"))
    Claims(workload.folder / "claims", "worker-1", 2).mark_done(unit)
    ours.join()
    assert len(written(workload)) == 1 and slow.played == {("a", 0): 1}
    assert (workload.folder / "claims" / f"{unit.key}.done").read_text() == "worker-1"


def test_a_disk_that_fails_for_a_moment_does_not_cost_the_claim(tmp_path: Path) -> None:
    claims = Claims(tmp_path, "worker-0", 60)
    unit = claims.claim([Unit("a", (0,))])
    assert unit
    (path,) = tmp_path.glob("*.claim")

    async def story() -> bool:
        async def work() -> None:
            path.rename(tmp_path / "away")
            await asyncio.sleep(0.3)
            (tmp_path / "away").rename(path)
            (tmp_path / "mark").touch()
            await asyncio.sleep(0.3)

        return await worker.while_held(claims, unit, 0.05, work())

    assert asyncio.run(story())
    assert path.stat().st_mtime > (tmp_path / "mark").stat().st_mtime  # renewed after all


OWN = """
def score(episode, task):
    if task.task_id == "b":
        return task.metadata["absent"]
    files = {path.name: path.read_text() for path in episode.files}
    return {"reward": float(files == {"42.txt": "42"}), "files": len(files), "unanswered": episode.answer is None}
"""


class Writer(Script):
    """It leaves a file, and gives no answer."""

    async def play(self, task: Task, attempt: int, seed: int, environment: Environment) -> Episode:
        code = "import os; os.makedirs('d'); open('d/42.txt', 'w').write('42'); os.chmod('d', 0o500)"
        await environment.call("python", {"code": code})
        return replace(episode(task, attempt, None), status="max_turns")


def test_an_own_reward_reads_what_an_episode_left_and_costs_the_one_it_fails_at(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    (tmp_path / "own").mkdir()
    file = tmp_path / "own" / "my_reward.py"
    file.write_text(OWN)
    workload = evaluation(tmp_path / "e", attempts=2, phase=Phase.ROUND)

    async def story() -> None:
        config = configuration.load(["recipe=demo", "seed=0"])
        config.environment = World(servers=["python"], slots=2, reuse="reset")
        async with (
            EnvironmentPool(config.environment, sandbox, None, tmp_path) as pool,
            Scorer(sandbox, config.environment, tmp_path) as programs,
        ):
            scoring = Scoring(OwnReward(file, "score", 20.0), lambda task: 60.0, programs.run, programs.folder)
            await Worker(config, workload, Writer(), pool, scoring, "worker-0").run()
            assert not list(tmp_path.glob("aworld-scoring-*/episode-*"))

    asyncio.run(story())
    found = {each.identity[1:]: each for each in journal.records(workload.folder / "journals")}
    assert [found["a", attempt].reward for attempt in (0, 1)] == [1.0, 1.0]
    assert found["a", 0].reward_parts == {"files": 1.0, "unanswered": 1.0}
    error = f"not scored: the reward {file}:score raised KeyError: 'absent' (my_reward.py line 4)"
    assert [(found["b", attempt].status, found["b", attempt].error) for attempt in (0, 1)] == [
        ("infra_error", error)
    ] * 2
    outcome = look(workload)
    assert outcome.failed == 2 and outcome.not_scored == {error.removeprefix("not scored: "): 2}


def test_a_slow_reward_holds_up_the_play_rather_than_let_files_pile_up(tmp_path: Path) -> None:
    workload = evaluation(tmp_path / "e", TASKS[:1], attempts=24, phase=Phase.ROUND)
    kept: list[int] = []

    def folder() -> Path:
        made = tmp_path / "left" / str(len(kept))
        made.mkdir(parents=True)
        kept.append(len(list(made.parent.iterdir())))
        return made

    async def slow(program: Program) -> Worth:
        await asyncio.sleep(0.5)
        return Worth(1.0)

    async def story() -> None:
        config = configuration.load(["recipe=demo", "seed=0"])
        config.environment = World(servers=["python"], slots=2, reuse="reset")
        async with EnvironmentPool(config.environment, choose("auto", ""), None, tmp_path) as pool:
            reward = AnswerReward(lambda answer, task: Program(tmp_path, {}))
            scoring = Scoring(reward, lambda task: 60.0, slow, folder)
            await Worker(config, workload, Script(), pool, scoring, "worker-0").run()

    asyncio.run(story())
    assert len(kept) == 24 and max(kept) == 8
    assert not list((tmp_path / "left").iterdir())
