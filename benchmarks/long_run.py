#!/usr/bin/env python
"""A run of weeks, made of tiny files: how many of them each command touches, and how long it takes.

    python benchmarks/long_run.py                   # after 5, 50 and 500 rounds of 32 workers and 2,000 episodes
    python benchmarks/long_run.py --rounds 5 50     # a minute

The files are written as the stages write them: claims, journals, trajectories, marks of completion. Only the weights
and the tokens are missing. A touch is a system call on a path in the run directory, as strace counts them. A number
that grows with the rounds behind it is a fault: on a shared file system each touch may take a millisecond.
"""

import argparse
import asyncio
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aworld import cli
from aworld import config as configuration
from aworld.errors import Interrupted
from aworld.launch import evaluations, lifetime
from aworld.launch.plan import discard_damaged, plan
from aworld.launch.prepare import prepare
from aworld.publish import append_json, is_complete, publish_json
from aworld.rollout.claims import CLAIM, DONE
from aworld.rollout.outcome import unfinished
from aworld.rollout.stage import WorkerInfo, close, rollout
from aworld.rollout.units import units
from aworld.rollout.workload import Workload, round_workload, schedule
from aworld.rundir import HELD_OUT, RunDir, StallTimer, numbered, open_run
from aworld.stages import ROLLOUT, TRAIN, Stage, stage_name
from aworld.tasks import make_source
from aworld.training.position import positions
from aworld.trajectories import arrays, file, journal
from aworld.trajectories.arrays import Trajectories
from aworld.trajectories.episode import Episode
from aworld.trajectories.timing import publish_timing
from aworld.watch.jobs import rows_of
from aworld.watch.overview import show_status
from aworld.watch.view import Watched

GROUP = 8  # attempts per task
CHECKPOINTS = 3  # that training keeps
POLLS = 10  # while a worker waits for a policy
MARKER = "/part/"  # a path that is not there: where a part begins, in strace's log


def make(folder: Path, behind: int, workers: int = 32, episodes: int = 2000, *words: str) -> RunDir:
    """A run with `behind` finished rounds, one half played, and ten more to come. Every fifth policy is evaluated.

    A round has a job of rollouts, with two logs and a start for each worker.

    Args:
        workers: of a rollout; each has a journal in every round.
        episodes: of a round.
    """
    tasks = episodes // GROUP
    settings = [
        *("recipe=demo", "site=local", f"runs={folder}", "name=weeks", f"pipeline.rounds={behind + 11}"),
        *(f"tasks.train={tasks}", "tasks.held_out=4", "training.cold_start.tasks=0", "pipeline.evaluate_every=5"),
        *(f"rollout.tasks_per_round={tasks}", f"rollout.group_size={GROUP}", f"site.rollout.elements={workers}"),
        *("site.sandbox=subprocess", "rollout.lease_seconds=100000"),
    ]
    config = configuration.load([*settings, *words])
    _complete(RunDir.of(config).base, ("config.json", "model.safetensors", "tokenizer.json"))
    run, source = prepare(config)
    workloads = schedule(config, run, source)
    table = _table(next(workload for workload in workloads if workload.phase.is_trained_on))
    for workload in workloads:
        if workload.phase.is_trained_on and workload.round <= behind:
            _gathered(run, workload, workers, table)
            _job(run, workload.round, workers, time.time() - 86400)
        elif workload.round <= behind + workload.phase.is_trained_on:
            _played(workload, workers, finished=not workload.phase.is_trained_on)
            if workload.phase.is_trained_on:
                _job(run, workload.round, workers, time.time())
    for number in range(1, behind + 1):
        _complete(run.policy(number), ("config.json", "model.safetensors", "tokenizer.json"))
        if number > behind - CHECKPOINTS:
            _complete(run.checkpoints / f"round-{number:04d}", ("common.pt", "__0_0.distcp", ".metadata"))
    append_json(run.jobs, {"stage": "rollout-0", "job": "1", "words": ["rollout"], "time": 0.0})
    return run


def _table(workload: Workload) -> Trajectories:
    """The trajectories of a round, which are alike for all: each plays every task."""
    rows = [_episode(workload, unit.task_id, attempt) for unit in units(workload) for attempt in unit.attempts]
    return arrays.from_episodes(workload.round, sorted(rows, key=lambda episode: episode.identity))


def _gathered(run: RunDir, workload: Workload, workers: int, table: Trajectories) -> None:
    """A finished round. Its claims and journals are empty, as nothing reads them again."""
    folder, seconds = workload.folder, {"wait": 1.0, "train": 300.0}
    found = units(workload)
    for name in ("claims", "journals", "closing"):
        (folder / name).mkdir(parents=True)
    for unit in found:
        for suffix in (f".1{CLAIM}", DONE):
            (folder / "claims" / (unit.key + suffix)).touch()
    for number in range(workers):
        (folder / "journals" / f"worker-{number}.journal").write_bytes(journal.HEADER)
    _timing(folder, workers)
    table.episodes["policy_version"] = workload.round - 1
    file.write(run.trajectories(workload.round), replace(table, round=workload.round))
    for step in range(1, 5):
        append_json(folder / "steps.jsonl", {"step": step, "of": 4, "loss": 0.01, "grad_norm": 1.0, "lr": 1e-6})
    publish_json(folder / "metrics.json", {"reward": 0.5, "steps": 4, "seconds": seconds, "groups": len(found)})


def _job(run: RunDir, number: int, workers: int, ended: float) -> None:
    """The row of a round's job of rollouts, as of one on Slurm, and the starts and logs of its workers."""
    stage, job = stage_name(ROLLOUT, number), str(1000 + number)
    name = f"{run.root.name}.{stage}"
    row = {"stage": stage, "words": ["rollout"], "elements": [*range(workers)], "name": name, "time": ended - 300}
    append_json(run.jobs, row | {"job": job})
    run.logs.mkdir(exist_ok=True)
    for worker in range(workers):
        start = {"job": job, "restart": 0, "time": ended - 300, "node": f"n{worker}"}
        append_json(run.starts / f"{stage}-{worker}.jsonl", start)
        for suffix in ("out", "err"):
            log = run.logs / f"{job}_{worker}_0_log.{suffix}"
            log.write_text("a line of a log\n")
            os.utime(log, (ended, ended))


def _played(workload: Workload, workers: int, finished: bool) -> None:
    """A finished evaluation; or a round, half played, whose other units are claimed by other workers."""
    folder, found = workload.folder, units(workload)
    (folder / "claims").mkdir(parents=True, exist_ok=True)
    played = found if finished else found[: len(found) // 2]
    for at, unit in enumerate(found):
        (folder / "claims" / f"{unit.key}.1{CLAIM}").write_text(f"worker-{100 + at % workers}")
    for number in range(workers if workload.phase.is_trained_on else 2):
        with journal.Journal(folder / "journals" / f"worker-{100 + number}.journal") as log:
            for unit in played[number :: workers if workload.phase.is_trained_on else 2]:
                for attempt in unit.attempts:
                    log.append(_episode(workload, unit.task_id, attempt))
                (folder / "claims" / (unit.key + DONE)).touch()
    if finished:
        _timing(folder, workers)


def _timing(folder: Path, workers: int) -> None:
    for number in range(workers):
        append_json(folder / "timing.jsonl", {"worker": number, "began": 1e9, "load_seconds": 20.0, "ended": 1e9 + 300})
    publish_timing(folder, 3.0)
    publish_json(folder / "sandbox.json", {"name": "bubblewrap", "gaps": []})


def _episode(workload: Workload, task_id: str, attempt: int) -> Episode:
    seconds = {"generate": 100.0, "tools": 20.0, "total": 120.0}
    reward, version = float(attempt % 2), max(0, workload.round - 1)
    numbers = (workload.round, task_id, attempt, 1)
    return Episode(*numbers, "?", [1], [1], [-0.5], [], "x", reward, "answered", seconds, version, attempt)


def _complete(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    publish_json(folder / "COMPLETE", {"files": {name: {"size": 0, "crc32": 0} for name in names}, "time": time.time()})


def _status(run: RunDir) -> None:
    config, run = open_run(run.root)
    show_status(config, run, Console(file=io.StringIO(), width=200))


def _watch(run: RunDir) -> None:
    """A second look at all that the pages show: whatever the first one keeps is there. With the rows of the jobs that
    Slurm would tell of."""
    watched, stage = Watched(*open_run(run.root)), stage_name(ROLLOUT, _newest(run))

    def look() -> None:
        members = watched.look().members
        assert rows_of(run, {stage: Counter(RUNNING=len(members))})

    look()
    _mark("watch")
    look()


def _resume(run: RunDir) -> None:
    """All that `aworld resume` does before it starts the first job."""
    config, _ = open_run(run.root)
    run, source = prepare(config)
    workloads = [*schedule(config, run, source), *evaluations.workloads(config, run)]
    discard_damaged(run, workloads)
    assert plan(config, run, workloads)


def _rollout(run: RunDir) -> None:
    """A resident worker that finds the round in other hands, and waits for the next policy."""
    config, run = open_run(run.root)
    source = make_source(config.tasks, run.tasks)
    lifetime.begin(config, Stage.of(ROLLOUT, config, run).task_of(0))
    workloads = unfinished(run, schedule(config, run, source))
    who = WorkerInfo(0, "rollout-0", "worker-0", gathers=True)
    looks = iter(range(POLLS))
    with suppress(Interrupted):
        asyncio.run(rollout(config, run, workloads, source, who, lambda: next(looks, None) is None))


def _newest(run: RunDir) -> int:
    return max(int(path.name) for path in (run.root / "rounds").iterdir() if path.name.isdecimal())


def _gather(run: RunDir) -> None:
    assert cli.main(["gather", str(run.root), "--round", str(_newest(run))]) == 3  # half of the round is not played


def _train(run: RunDir) -> None:
    """What a trainer looks at before its ranks load anything, and while it waits for a round."""
    config, run = open_run(run.root)
    lifetime.begin(config, Stage.of(TRAIN, config, run))
    assert not is_complete(run.policy(config.pipeline.rounds)) and positions(run.checkpoints)
    timer = StallTimer(run, config.site.wait_seconds)
    for _ in range(POLLS):
        assert not run.trajectories(_newest(run)).exists() and not timer.has_stalled()


def _evaluate(run: RunDir) -> None:
    newest = max(int(folder.name) for folder in numbered(run.root / "evals" / HELD_OUT))
    assert cli.main(["evaluate", str(run.root), "--policy", str(newest)]) == 0


def _close(run: RunDir) -> None:
    """Gather a round by MPI, as the worker that finds it played."""
    config, run = open_run(run.root)
    number = _newest(run)
    workload = round_workload(config, run, make_source(config.tasks, run.tasks), number)
    for claim in (workload.folder / "claims").glob(f"*{CLAIM}"):
        claim.with_name(claim.name.removesuffix(f".1{CLAIM}") + DONE).touch()
    with journal.Journal(workload.folder / "journals" / "worker-0.journal") as log:
        for unit in units(workload)[len(workload.tasks) // 2 :]:
            for attempt in unit.attempts:
                log.append(_episode(workload, unit.task_id, attempt))
    _mark("close")
    asyncio.run(close(config, run, workload, WorkerInfo(0, "rollout-0", "worker-0", gathers=True)))
    assert run.trajectories(number).exists()


PARTS: dict[str, Callable[[RunDir], None]] = {
    "status": _status,
    "watch": _watch,
    "resume": _resume,
    "rollout": _rollout,
    "gather": _gather,
    "train": _train,
    "evaluate": _evaluate,
    "close": _close,
}
ABOUT = {
    "watch": "watch, one look",
    "resume": "resume, before the first job",
    "rollout": f"rollout starts, {POLLS} polls for a policy",
    "gather": "gather starts",
    "train": f"train starts, {POLLS} polls for a round",
    "evaluate": "evaluate starts",
    "close": "a round is closed",
}


def _mark(part: str) -> None:
    """Begin to count for a part: strace sees this look at a path that is not there."""
    Path(MARKER + part).exists()


def play_parts(run: RunDir, parts: Iterable[str]) -> dict[str, float]:
    """CPU seconds of each part, in a process of its own that has all imports behind it."""
    seconds = {}
    for part in parts:
        if not (child := os.fork()):
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                _mark(part)
                PARTS[part](run)
            os._exit(0)
        _, status, used = os.wait4(child, 0)
        if status:
            raise SystemExit(f"{part} failed; see above")
        seconds[part] = used.ru_utime + used.ru_stime
    return seconds


def touches(run: RunDir, parts: Iterable[str]) -> Counter[str]:
    """The system calls on paths of the run directory that each part makes, as strace counts them."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        traced = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", "trace=%file", "-o", str(log)]
        command = [*traced, sys.executable, __file__, "--run", str(run.root), *parts]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        part, found = "", Counter(dict.fromkeys(parts, 0))
        for line in log.read_text(errors="replace").splitlines():
            if mark := re.search(rf'"{MARKER}(.*?)"', line):
                part = mark[1]
                found[part] = 0
            elif part and f'"{run.root}' in line:
                found[part] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, nargs="+", default=[5, 50, 500], help="finished ones")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("parts", nargs="*", metavar="PART", default=list(PARTS), help=", ".join(PARTS))
    arguments = parser.parse_args()
    if arguments.run:  # a process of our own, perhaps traced
        print(json.dumps(play_parts(RunDir(arguments.run), arguments.parts)))
        return
    console, found, seconds = Console(highlight=False), {}, {}
    shared_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for behind in arguments.rounds:
        with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
            began = time.monotonic()
            run = make(Path(folder), behind)
            made = time.monotonic()
            play_parts(run, ["status"])
            first = time.monotonic()
            seconds[behind] = play_parts(run, [part for part in arguments.parts if part != "close"])
            found[behind] = touches(run, arguments.parts)
            whole = _cpu_seconds(sys.executable, "-m", "aworld", "status", str(run.root))
            console.print(
                f"{behind} rounds: made in {made - began:.0f} s; first look {first - made:.1f} s, which notes their "
                f"outcomes; after it `aworld status` takes {whole:.2f} s of CPU, all imports included",
                soft_wrap=True,
            )
    table = Table("touches, CPU seconds", *(f"{behind} rounds" for behind in arguments.rounds))
    for part in arguments.parts:
        times = (seconds[behind].get(part) for behind in arguments.rounds)
        cells = [f"{found[behind][part]}" for behind in arguments.rounds]
        cells = [cell if time is None else f"{cell}, {time:.2f} s" for cell, time in zip(cells, times, strict=True)]
        table.add_row(ABOUT.get(part, part), *cells)
    console.print(table)


def _cpu_seconds(*words: str) -> float:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
