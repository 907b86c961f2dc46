"""Kills on a private Slurm: of trainer ranks, vLLM engines, workers, nodes and the controller, each timed."""

import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from cluster import Cluster
from rich.console import Console
from slurm_conf import Settings
from small_run import NO_IMAGES, Run, copy, hurry, prepare

from aworld.errors import InfrastructureError
from aworld.publish import read_jsonl
from aworld.training.position import positions
from aworld.trajectories import journal

SMALL = [
    "training.cold_start.epochs=100",
    "training.cold_start.stop_at=1.0",
    "training.save_seconds=3",
    "rollout.tasks_per_round=16",
]
SMALL += ["rollout.group_size=64", "site.rollout.elements=1", "pipeline.max_restarts=20", "name=run"]
GIVE_UP = 300.0  # seconds
LOST = "finished episodes lost or recorded twice"


@dataclass(frozen=True)
class Kill:
    """One kill, and what came of it.

    Attributes:
        useful: what ends the recovery.
        seconds: from the kill to that.
        bare: seconds from an undisturbed start of the same part to its first; 0: there is nothing to compare with.
        lost: how much of the work named by `lost_what` was lost.
        waited: seconds of these until Slurm started the job again.
    """

    kind: str
    useful: str
    seconds: float
    bare: float
    lost: float
    lost_what: str
    waited: float = 0.0


def on_slurm(kills: int, folder: Path) -> list[Kill]:
    """So many kills of each kind, in one run.

    Raises:
        InputError: Slurm is not installed.
        InfrastructureError: something did not come back.
    """
    console, cluster = Console(stderr=True, highlight=False), Cluster.temporary(Settings(accounting=False))
    os.environ.update(cluster.env)
    try:
        cluster.start()
        run = prepare(folder, *NO_IMAGES, *SMALL)
        for stage in ("rollout", "gather"):  # by the expert
            done = run.command(stage, "--round", "0")
            if done.returncode:
                raise InfrastructureError(f"{stage} of round 0: {done.stderr}")
        found: list[Kill] = []
        for begin in (Training, Playing):
            scene = begin(cluster, run)
            for kind, hit in scene.kinds.items():
                for _ in range(kills):
                    found.append(scene.strike(kind, hit))
                    console.print(found[-1])
            scene.end()
        return found
    finally:
        cluster.stop()


class Scene:
    """A stage that is at work in a job, while it is hit."""

    kinds: dict[str, Callable[[], object]]
    stage = ""

    def __init__(self, cluster: Cluster, run: Run):
        self.cluster, self.run = cluster, run

    def start(self, number: int, is_at_work: Callable[[Run], bool], what: str) -> None:
        """Launch the stage twice, first in a copy of the run: a first start reads its programs from the disk."""
        stage = self.stage.split("-")[0]
        for run in (copy(self.run, self.run.dir.root.with_name(f"first-{stage}")), self.run):
            self.cluster.cancel_all()
            run.launch(stage, number)
            self.wait(partial(is_at_work, run), what)

    def find(self, *words: str) -> psutil.Process | None:
        """The oldest Python process of the jobs with these words in its command line."""
        found = []
        for process in self.cluster.processes():
            with suppress(psutil.Error):
                command = process.cmdline()
                if command and "python" in Path(command[0]).name and set(words) <= set(command):
                    found.append(process)
        return min(found, key=lambda process: process.create_time(), default=None)

    def kill(self, *words: str) -> None:
        process = self.find(*words)
        if process is None:
            raise InfrastructureError(f"no process of {' '.join(words)} to kill")
        process.kill()

    def node_dies(self) -> None:
        """With all that runs there; it comes back at once. Slurm is told, as by a site's monitoring."""
        shown = self.cluster.slurm("squeue", "--noheader", f"--jobs={self.run.job(self.stage)}", "--format=%N")
        node = self.cluster.slurm("scontrol", "show", "hostnames", shown).split()[0]
        self.cluster.kill_slurmd(node)
        self.cluster.take_down(node)
        self.cluster.start_slurmd(node)

    def wait(self, condition: Callable[[], bool], what: str, every: float = 0.1) -> None:
        looked = 0.0

        def is_so() -> bool:
            nonlocal looked
            if time.monotonic() - looked > 1:
                hurry()
                looked = time.monotonic()
            return condition()

        self.run.wait_for(is_so, what, GIVE_UP, every)

    def begun(self) -> list[float]:
        """When its task, the first where there are several, began, each time."""
        return sorted(start["time"] for start in self.run.starts(self.stage) if start["job"])


class Training(Scene):
    """The cold start's training, by two ranks on two nodes."""

    stage = "train-0000"

    def __init__(self, cluster: Cluster, run: Run):
        super().__init__(cluster, run)
        self.kinds = {"trainer rank": lambda: self.kill("aworld.training.rank"), "trainer's node": self.node_dies}
        self.start(0, lambda run: steps(run) > 0, "the first step")
        self.bare = time.time() - self.begun()[0]

    def strike(self, kind: str, hit: Callable[[], object]) -> Kill:
        first, before = steps(self.run), len(self.begun())
        self.wait(
            lambda: steps(self.run) > first and bool(positions(self.run.dir.checkpoints)), "a step and a checkpoint"
        )
        hit()
        at, made = time.time(), steps(self.run)
        saved = positions(self.run.dir.checkpoints)[-1]
        self.wait(lambda: len(self.begun()) > before, "its next start")
        waited = self.begun()[before] - at
        self.wait(lambda: steps(self.run) > made, "its next step")
        seconds = time.time() - at
        return Kill(kind, "step", seconds, self.bare, made - (saved.step or made), "steps made again", waited)

    def end(self) -> None:
        self.run.wait_for_jobs(GIVE_UP)


def steps(run: Run) -> int:
    """How many steps the cold start has made."""
    return len(read_jsonl(run.dir.round(0) / "steps.jsonl"))


class Playing(Scene):
    """Round 1's rollout, by one worker with two slots."""

    stage = "rollout-0001"

    def __init__(self, cluster: Cluster, run: Run):
        super().__init__(cluster, run)
        self.kinds = {
            "vLLM engine": self.engine_dies,
            "rollout worker": lambda: self.kill("aworld", "rollout"),
            "worker's node": self.node_dies,
            "Slurm's controller": self.controller_dies,
        }
        self.start(1, lambda run: run.episodes(1) > 0, "the first episode")
        now, engine = time.time(), self.engine()
        assert engine
        self.bare = {"vLLM engine": now - engine.create_time()}
        self.bare |= dict.fromkeys(("rollout worker", "worker's node"), now - self.begun()[0])

    def engine(self) -> psutil.Process | None:
        return self.find("aworld.inference.serve")

    def engine_dies(self) -> None:
        """The process with the model; the HTTP server above it ends by itself."""
        server = self.engine()
        assert server
        next(each for each in server.children(recursive=True) if "EngineCore" in each.name()).kill()

    def controller_dies(self) -> None:
        self.cluster.kill_slurmctld()
        self.cluster.start_slurmctld()

    def strike(self, kind: str, hit: Callable[[], object]) -> Kill:
        first = self.run.episodes(1)
        self.wait(lambda: self.run.episodes(1) > first + 2, "some episodes")
        old, starts, finished = self.engine(), len(self.begun()), self.recorded()
        assert old
        at = time.time()
        hit()
        if kind in self.bare:  # what was sampled before may still be recorded
            self.wait(lambda: (new := self.engine()) is not None and new != old, "another vLLM", every=0.5)
        known = self.run.episodes(1)
        self.wait(lambda: self.run.episodes(1) > known, "its next episode")
        seconds, begun = time.time() - at, self.begun()
        waited = begun[starts] - at if len(begun) > starts else 0.0
        now = self.recorded()
        wrong = sum(each not in now for each in finished) + now.total() - len(now)
        return Kill(kind, "episode", seconds, self.bare.get(kind, 0.0), wrong, LOST, waited)

    def recorded(self) -> Counter[tuple[int, str, int]]:
        """How often each episode is in the journals."""
        paths = (self.run.dir.round(1) / "journals").glob("*.journal")
        return Counter(entry.record.identity for path in paths for entry in journal.list_entries(path).entries)

    def end(self) -> None:
        self.cluster.cancel_all()
