"""What finished workloads came to. One file notes it for all rounds, and one for all policies on a benchmark.

So nothing looks into the folder of a round, or of an evaluation, after its end: a run of weeks has hundreds of them.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.publish import read_jsonl
from aworld.rollout.units import is_closed, standing, units_left
from aworld.rollout.workload import Workload
from aworld.rundir import RunDir, finished, note_finished
from aworld.trajectories import file, journal
from aworld.trajectories.record import Record, rewards


@dataclass(frozen=True)
class Outcome:
    """What a workload came to.

    Attributes:
        units: that were played.
        attempts: at each of them.
        of_one_reward: units whose attempts all have one reward, where the workload counts that.
        episodes: on record; `failed` of them by the machine.
        reward: their mean; 0 where there is none.
        steps: of the optimizer; 0 where nothing was learned, or nothing is trained.
        loss: of the last step.
        not_scored: number of the episodes that the reward failed at, by its error.
    """

    units: int
    attempts: int
    of_one_reward: int
    episodes: int
    failed: int
    reward: float
    steps: int = 0
    loss: float | None = None
    not_scored: dict[str, int] = field(default_factory=dict)


def outcomes(run: RunDir, workloads: Iterable[Workload]) -> dict[str, Outcome]:
    """The outcomes of the finished ones of these workloads, by their names.

    A round is finished once its policy, or a later one, is published. Reads one file for each kind of workload. Where a
    note is missing, as in the run directory of an earlier version, the workload's own files are read, and it is noted.
    """
    newest = run.newest_policy()
    notes: dict[Path, dict[int, Outcome]] = {}
    found = {}
    for workload in workloads:
        folder = workload.folder.parent
        if workload.round > newest:
            continue
        if folder not in notes:
            notes[folder] = {number: Outcome(**row) for number, row in finished(folder).items()}
        outcome = notes[folder].get(workload.round)
        if outcome and (workload.phase.is_trained_on or _answers(outcome, workload)):
            found[workload.name] = outcome
        elif workload.phase.is_trained_on or (is_closed(workload) and not units_left(workload)):
            found[workload.name] = look(workload)
            if workload.folder.is_dir():  # else it was removed to make room
                with suppress(OSError):  # whoever only looks on may not write; the next one notes it
                    note_finished(folder, workload.round, asdict(found[workload.name]))
    return found


def unfinished(run: RunDir, workloads: Iterable[Workload]) -> list[Workload]:
    """The workloads that may have something left to do. A round has none once its checkpoint, or a later
    one, is there."""
    trained, given = run.trained_round(), list(workloads)
    over = outcomes(run, (workload for workload in given if not workload.phase.is_trained_on))
    return [w for w in given if (w.round > trained if w.phase.is_trained_on else w.name not in over)]


def look(workload: Workload, records: list[Record] | None = None) -> Outcome:
    """The outcome so far, from the workload's own files. Reads a round's table of episodes once it is gathered.

    Args:
        records: of its journals, where they were read already.
    """
    seen = standing(workload)
    failed, rewards, not_scored = _episodes(workload, records)
    steps = read_jsonl(workload.folder / "steps.jsonl")
    return Outcome(
        units=len(seen.units),
        attempts=workload.attempts,
        of_one_reward=len(seen.of_one_reward),
        episodes=len(rewards),
        failed=failed,
        reward=sum(rewards) / max(1, len(rewards)),
        steps=steps[-1]["step"] if steps else 0,
        loss=steps[-1]["loss"] if steps else None,
        not_scored=not_scored,
    )


def _answers(outcome: Outcome, workload: Workload) -> bool:
    """Whether an evaluation asked for no more than this: further attempts may be asked for at any time."""
    return (outcome.units, outcome.attempts) == (len(workload.tasks), workload.attempts)


def _episodes(workload: Workload, records: list[Record] | None) -> tuple[int, list[float], dict[str, int]]:
    """How many episodes failed, the reward of each, and how many were not scored, by the reward's error."""
    if workload.phase.is_trained_on and is_closed(workload):
        try:
            table, _ = file.read_table(workload.folder / "trajectories.h5")
            return int((table["status"] == b"infra_error").sum()), table["reward"].tolist(), _not_scored(workload)
        except InfrastructureError:  # damaged: its reader says so
            pass
    if records is None:
        records = journal.records(workload.folder / "journals")
    failed = sum(each.status == "infra_error" for each in records)
    return failed, [each.reward for each in records], rewards(records)["not_scored"]


def _not_scored(workload: Workload) -> dict[str, int]:
    """As it was noted when the round was gathered; nothing of a round that an earlier version gathered."""
    path = workload.folder / "rewards.json"
    found: dict[str, int] = json.loads(path.read_text())["not_scored"] if path.exists() else {}
    return found
