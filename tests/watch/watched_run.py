"""A run under way, made of files: a finished round and evaluations, a round half played, a log with an error."""

from pathlib import Path

from unplayed_run import unplayed_run

from aworld import config as configuration
from aworld.publish import append_json, publish_folder, publish_json, publish_text
from aworld.rollout.units import claims_of, units
from aworld.rollout.workload import Workload, schedule
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.trajectories.episode import Episode
from aworld.trajectories.journal import Journal

ERROR = "policy 3 is damaged (model.safetensors) and not used; remove the folder, then: aworld resume RUN"


def watched_run(folder: Path) -> tuple[RunDir, Workload]:
    """The run, and its first round: two of four attempts at one task are on record, and its unit is in hand."""
    run = unplayed_run(folder)
    config = configuration.read(run.config)
    config.rollout.group_size = 4
    publish_text(run.config, configuration.to_yaml(config))
    workloads = schedule(config, run, make_source(config.tasks, run.tasks))
    cold, before, first = workloads[:3]
    publish_text(run.trajectories(0), "")
    play(cold, cold.tasks[0].task_id, 0, 1.0)
    publish_json(cold.folder / "timing.json", {"rollout_seconds": 90.0, "gather_seconds": 1.0, "load_seconds": 3.0})
    publish_json(cold.folder / "metrics.json", {"seconds": {"train": 30.0}})
    publish_folder(run.policy(0), lambda folder: (folder / "model.safetensors").write_bytes(b""))
    for task in before.tasks:
        for attempt in range(before.attempts):
            play(before, task.task_id, attempt, 0.25)
    for unit in units(before):
        claims_of(before, "worker-0", 600).mark_done(unit)
    publish_json(before.folder / "timing.json", {"rollout_seconds": 20.0})
    unit = claims_of(first, "worker-0", 600).claim(units(first))
    assert unit
    for attempt in range(2):
        play(first, unit.task_id, attempt, float(attempt))
    for worker in range(2):
        for _ in range(1 + worker):
            append_json(
                run.starts / f"rollout-{worker}.jsonl", {"job": "", "restart": 0, "time": 1.0, "node": f"n0{worker}"}
            )
    append_json(run.jobs, {"stage": "rollout-1", "job": "77", "words": [], "time": 1.0})
    publish_text(run.logs / "77_0_log.err", f"all is well\nerror: {ERROR}\n")
    return run, first


def play(workload: Workload, task: str, attempt: int, reward: float, worker: str = "worker-0") -> None:
    seconds = {"generate": 20.0, "tools": 3.0, "total": 23.0}
    with Journal(workload.folder / "journals" / f"{worker}.journal") as log:
        numbers = (workload.round, task, attempt, 1)
        log.append(Episode(*numbers, "?", [1], [1], [-0.5], [], "x", reward, "answered", seconds, 0, attempt))
