"""What is noted of finished workloads, so that nothing looks into their folders again."""

from pathlib import Path

import pytest

from aworld.phase import Phase
from aworld.publish import publish_folder, publish_text
from aworld.rollout.outcome import Outcome, outcomes, unfinished
from aworld.rollout.units import claims_of, reopen_failed, units
from aworld.rollout.workload import Workload
from aworld.rundir import FINISHED, RunDir, forget_removed
from aworld.tasks.task import Task
from aworld.trajectories import arrays, file
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal

pytestmark = pytest.mark.unit

TASKS = [Task(name, "question", "answer", 1) for name in "ab"]


def weights(*folders: Path) -> None:
    for folder in folders:
        publish_folder(folder, lambda where: (where / "weights").touch())


def an_episode(round_: int, task: str, attempt: int, status: str = "answered") -> Episode:
    reward = float(attempt == 0 and status == "answered")
    return Episode(round_, task, attempt, 1, "?", [1], [1], [-1.0], [], "x", reward, status, {}, 0, 0)  # type: ignore[arg-type]


def a_round(run: RunDir, number: int) -> Workload:
    return Workload(Phase.ROUND, f"round {number}", run.round(number), number, TASKS, 2, 1.0, range(number - 1, number))


def an_evaluation(run: RunDir, version: int, attempts: int = 2) -> Workload:
    folder = run.evaluation("held-out", version)
    return Workload(Phase.EVALUATION, f"held-out-{version}", folder, version, TASKS, attempts, 1.0, range(version + 1))


def play(workload: Workload, failing: str = "") -> None:
    claims = claims_of(workload, "worker-0", 60.0)
    with Journal(workload.folder / "journals" / "worker-0.journal") as log:
        while unit := claims.claim(units(workload)):
            for attempt in unit.attempts:
                status = "infra_error" if unit.task_id == failing else "answered"
                log.append(an_episode(workload.round, unit.task_id, attempt, status))
            claims.mark_done(unit)
    if workload.phase is Phase.EVALUATION:
        publish_text(workload.folder / "timing.json", "{}")
        return
    rows = [an_episode(workload.round, task, attempt) for task in "ab" for attempt in (0, 1)]
    file.write(workload.folder / "trajectories.h5", arrays.from_episodes(workload.round, rows))
    publish_text(workload.folder / "steps.jsonl", '{"step": 3, "of": 3, "loss": 0.5}\n')


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two rounds and their evaluations are over; a third round is gathered."""
    run = RunDir(tmp_path)
    for number in (1, 2, 3):
        play(a_round(run, number))
    for version in (1, 2):
        play(an_evaluation(run, version))
    weights(*(run.policy(version) for version in range(3)), run.checkpoints / "round-0002")
    return run


def workloads(run: RunDir) -> list[Workload]:
    return [*(a_round(run, number) for number in (1, 2, 3, 4)), *(an_evaluation(run, version) for version in (1, 2, 3))]


def test_what_is_over_is_noted_with_what_it_came_to(run: RunDir) -> None:
    found = outcomes(run, workloads(run))
    assert list(found) == ["round 1", "round 2", "held-out-1", "held-out-2"]
    assert found["round 1"] == Outcome(2, 2, 0, 4, 0, 0.5, 3, 0.5)
    assert found["held-out-2"] == Outcome(2, 2, 0, 4, 0, 0.5)
    for folder in (run.round(1), run.evaluation("held-out", 1)):
        for path in folder.rglob("*"):
            if path.is_file():
                path.write_bytes(b"nobody reads this again")
    assert outcomes(run, workloads(run)) == found
    assert [workload.name for workload in unfinished(run, workloads(run))] == ["round 3", "round 4", "held-out-3"]


@pytest.mark.parametrize("left", ["", '{"number": 1, "uni'])
def test_a_note_that_is_lost_is_made_again(run: RunDir, left: str) -> None:
    found = outcomes(run, workloads(run))
    (run.root / "rounds" / FINISHED).write_text(left)
    assert outcomes(run, workloads(run)) == found == outcomes(run, workloads(run))


def test_a_note_goes_with_the_folder_it_is_about(run: RunDir) -> None:
    """Who begins a run anew from some round on removes its folders."""
    outcomes(run, workloads(run))
    for folder in (run.round(2), run.policy(2), run.evaluation("held-out", 2)):
        folder.rename(run.root / f"old-{folder.parent.name}")
    assert list(outcomes(run, workloads(run))) == ["round 1", "held-out-1"]
    weights(run.policy(2))
    play(a_round(run, 2))
    publish_text(run.round(2) / "steps.jsonl", '{"step": 1, "of": 1, "loss": 0.25}\n')
    assert outcomes(run, workloads(run))["round 2"].loss == 0.25


def test_a_folder_that_is_made_anew_has_no_note(run: RunDir) -> None:
    outcomes(run, workloads(run))
    folder = run.evaluation("held-out", 1)
    folder.rename(run.root / "old")
    forget_removed(run)
    folder.mkdir()
    assert list(outcomes(run, workloads(run))) == ["round 1", "round 2", "held-out-2"]


def test_more_attempts_and_failed_ones_open_an_evaluation_again(run: RunDir) -> None:
    outcomes(run, workloads(run))
    assert [w.name for w in unfinished(run, [an_evaluation(run, 1, attempts=3)])] == ["held-out-1"]
    assert unfinished(run, [an_evaluation(run, 1)]) == []
    weights(run.policy(3))
    play(an_evaluation(run, 3), failing="a")
    assert outcomes(run, [an_evaluation(run, 3)])["held-out-3"].failed == 2
    reopen_failed(an_evaluation(run, 3))
    assert outcomes(run, [an_evaluation(run, 3)]) == {}
