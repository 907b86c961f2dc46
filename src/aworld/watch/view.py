"""What `aworld watch` shows, gathered look after look. A look reads what is new, and asks Slurm now and then."""

import time
from dataclasses import dataclass, field

from aworld.config import Config
from aworld.phase import Phase
from aworld.rollout.outcome import look as outcome_of
from aworld.rollout.units import standing
from aworld.rollout.workload import Workload
from aworld.rundir import HELD_OUT, RunDir
from aworld.stages import EVALUATE, ROLLOUT, TRAIN, Kind
from aworld.trajectories.record import Record
from aworld.watch import slow
from aworld.watch.faults import Fault, Faults
from aworld.watch.heads import Heads
from aworld.watch.jobs import AskedSometimes, JobRow, rows_of
from aworld.watch.members import Member, trainer, workers
from aworld.watch.overview import UNDER_WAY, Overview, look, slurm_asker, workloads_of
from aworld.watch.status import StageStatus, Tally, tally

JOBS = 8  # stages with jobs that Slurm is asked of


@dataclass(frozen=True, eq=False)  # each is another one
class View:
    """A run at one moment.

    Attributes:
        at_work: the stages that have begun and are not finished; before the first one, the first.
        left: seconds that each of them may still take, by its kind and workload.
        rewards: the mean reward of each round and, by name, of each evaluation, by its number.
        played: the name of the workload that `members` play.
        phases: the seconds of each stage of the last finished round, and its number.
        slow: lines on what takes long.
        jobs: a row for each stage that Slurm was asked of.
        read_at: seconds since 1970.
    """

    overview: Overview
    name: str
    rounds: int
    at_work: list[StageStatus]
    left: dict[tuple[Kind, str], float]
    rewards: dict[str, list[tuple[int, float]]]
    played: str
    members: list[Member]
    phases: tuple[int, dict[Kind, float]]
    slow: list[str]
    faults: list[Fault]
    jobs: list[JobRow]
    read_at: float


@dataclass
class Watched:
    """A run that is looked at again and again."""

    config: Config
    run: RunDir
    _heads: dict[str, Heads] = field(default_factory=dict)  # by name of a workload under way
    _records: dict[str, list[Record]] = field(default_factory=dict)
    _first: dict[tuple[Kind, str], tuple[float, int]] = field(default_factory=dict)  # when first seen, units done then
    _since: dict[str, float] = field(default_factory=dict)  # when a unit was first seen in hand, by its key

    def __post_init__(self) -> None:
        self.workloads, self.unreadable = workloads_of(self.config, self.run)
        self.faults = Faults(self.run)
        self.jobs = AskedSometimes(slurm_asker(self.config, self.run, JOBS), self.config.site.queue_seconds)

    def look(self) -> View:
        """The run as it is now.

        Raises:
            InfrastructureError: Slurm does not answer the first question, or a journal is damaged.
        """
        run, config = self.run, self.config
        overview = look(config, run, self.workloads, self.unreadable, self.jobs, self._count)
        under_way = {name: heads for name, heads in self._heads.items() if name not in overview.over}
        self._heads, self._records = under_way, {name: self._records[name] for name in under_way}
        at_work = _at_work(overview)
        played = next((s.workload for s in at_work if s.kind in (ROLLOUT, EVALUATE)), "")
        workload = next((each for each in self.workloads if each.name == played), None)
        members = [] if workload is None else self._workers(workload)
        trained = next((s.workload for s in at_work if s.kind == TRAIN), None)
        number = next((w.round for w in self.workloads if w.name == trained), None)
        if number is not None and (one := trainer(config, run, number, overview.jobs)):
            members.insert(0, one)
        finished = [w.round for w in self.workloads if w.phase.is_trained_on and w.name in overview.over]
        phases = slow.phases(run, finished[-1]) if finished else {}
        notes = [
            *slow.of_queue(run, overview.jobs.queued),
            *slow.of_workers(members),
            *(self._in_hand(workload) if workload else ()),
            *slow.of_episodes(self._records.get(played, [])),
        ]
        return View(
            overview=overview,
            name=config.name,
            rounds=config.pipeline.rounds,
            at_work=at_work,
            left=self._left(at_work, phases),
            rewards=self._rewards(overview),
            played=played,
            members=members,
            phases=(finished[-1] if finished else 0, phases),
            slow=notes,
            faults=self.faults.look({each.submission.job for each in overview.jobs.queued}),
            jobs=rows_of(run, overview.jobs.counts()),
            read_at=time.time(),
        )

    def _count(self, workload: Workload) -> Tally:
        heads = self._heads.setdefault(workload.name, Heads(workload.folder / "journals"))
        self._records[workload.name] = records = heads.read()
        return tally(workload, outcome_of(workload, records))

    def _workers(self, workload: Workload) -> list[Member]:
        heads = self._heads.get(workload.name) or Heads(workload.folder / "journals")
        return workers(self.config, self.run, workload, heads, self.jobs())

    def _in_hand(self, workload: Workload) -> list[str]:
        """A line on the unit that is in hand for the longest time, as far as this process has seen."""
        now, units = time.monotonic(), {unit.key: unit for unit in standing(workload).in_hand}
        self._since = {key: self._since.get(key, now) for key in units}
        key = min(self._since, key=self._since.__getitem__, default=None)
        if key is None or now - self._since[key] < slow.LONG:
            return []
        return [f"{units[key].task_id}: in hand for more than {slow.duration(now - self._since[key])}"]

    def _left(self, at_work: list[StageStatus], phases: dict[Kind, float]) -> dict[tuple[Kind, str], float]:
        """By the seconds of the last round; else by the pace since this process looks."""
        now, found = time.monotonic(), {}
        for stage in at_work:
            key = (stage.kind, stage.workload)
            began, before = self._first.setdefault(key, (now, stage.done))
            left = stage.total - stage.done
            if stage.kind in phases and stage.is_begun and stage.workload.startswith("round "):
                found[key] = phases[stage.kind] * left / stage.total
            elif stage.done > before:
                found[key] = (now - began) * left / (stage.done - before)
        return found

    def _rewards(self, overview: Overview) -> dict[str, list[tuple[int, float]]]:
        found: dict[str, list[tuple[int, float]]] = {}
        for workload in self.workloads:
            tally = overview.tallies.get(workload.name)
            is_evaluated = workload.phase is Phase.EVALUATION and workload.name in overview.over
            if tally and tally.reward is not None and (is_evaluated or workload.phase is Phase.ROUND):
                name = (workload.benchmark or HELD_OUT) if is_evaluated else "round"
                found.setdefault(name, []).append((workload.round, tally.reward))
        return found


def _at_work(overview: Overview) -> list[StageStatus]:
    """The stages that are under way. Where none is, the first that is not finished."""
    if overview.code != UNDER_WAY:
        return []
    left = [stage for stage in overview.stages if not stage.finished]
    return [stage for stage in left if stage.is_begun] or left[:1]
