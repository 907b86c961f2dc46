"""Passes over the tasks of the experience benchmark: ours, local and on Slurm, and those of other systems."""

import heapq
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rivals
import slow_endpoint
from results import ROOT
from slow_endpoint import Asked, Latency
from usage import Group, Used

from aworld.errors import InfrastructureError
from aworld.rundir import RunDir

ELEMENTS = 4  # of the Slurm array
LOOKS = 5  # at the memory, while the model alone would take its time
POLL, LOOK = 0.02, 1.0  # seconds between two looks for a file, and at the memory
PREPARE = "recipe=demo site=local tasks.train=8 tasks.held_out=2 pipeline.rounds=0 training.cold_start.tasks=0"
RIVALS = {  # by name: the package that is measured, and all that pip installs for it
    "Original AWorld": ("aworld", "aworld==0.3.2", "pydantic<2.12"),
    "Ray actors": ("ray", "ray>=2.50,<3", "openai>=2,<4"),
    "Verifiers": ("verifiers", "verifiers>=0.2,<0.4"),
}


def rival(name: str) -> Path:
    """The Python of a rival's environment."""
    package, *requirements = RIVALS[name]
    return rivals.environment(f"experience-{package}", requirements)


@dataclass(frozen=True)
class Measured:
    """One pass over all tasks.

    Attributes:
        order: the tasks as they were begun.
        start: seconds until the model was asked for the first time.
    """

    used: Used
    order: list[int]
    start: float


@dataclass(frozen=True)
class Setting:
    """The tasks and the model of a measurement."""

    latency: Latency
    tasks: int
    slots: int

    @property
    def durations(self) -> list[float]:
        return [self.latency.task(task) for task in range(self.tasks)]

    @property
    def bound(self) -> float:
        """Seconds that no order of the tasks can be below."""
        return max(*self.durations, sum(self.durations) / self.slots)

    @property
    def patience(self) -> float:
        """Seconds after which a pass hangs."""
        return 10 * self.bound + 60

    def listed(self, order: Sequence[int]) -> float:
        """Seconds of list scheduling in this order, without any cost."""
        return makespan([self.latency.task(task) for task in order], self.slots)


def makespan(durations: Iterable[float], slots: int) -> float:
    """Seconds until all is done, where each goes to the first free slot, in the given order."""
    free = [0.0] * slots
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


@contextmanager
def endpoint(latency: Latency) -> Iterator[str]:
    """The address of an endpoint, which ends with the block."""
    command = [sys.executable, slow_endpoint.__file__, f"--seed={latency.seed}", f"--median={latency.median}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def order_of(setting: Setting, who: str, turns: Sequence[Asked]) -> list[int]:
    """The order in which the tasks were begun.

    Raises:
        InfrastructureError: not every task was played once, to its right answer.
    """
    wanted = [(task, turn) for task in range(setting.tasks) for turn in range(slow_endpoint.TURNS)]
    if sorted((one.task, one.turn) for one in turns) != wanted or not all(one.is_right for one in turns):
        right = sum(one.is_right for one in turns if one.turn)
        raise InfrastructureError(f"{who}: {right} of {setting.tasks} tasks were solved, in {len(turns)} turns")
    return slow_endpoint.order(turns)


@dataclass
class Course:
    """The endpoint and a run directory. Each pass of ours is an evaluation in that directory."""

    setting: Setting
    address: str
    folder: Path
    passes: int = 0

    @property
    def run(self) -> RunDir:
        return RunDir(self.folder / "run")

    def prepare(self) -> None:
        """Write the tasks to a file, and make a run directory. Its policy 0 is never asked."""
        rows = [
            {"id": f"task-{task:04}", "question": slow_endpoint.question(task), "answer": slow_endpoint.result(task)}
            for task in range(self.setting.tasks)
        ]
        (self.folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        python("-m", "aworld", "prepare", *PREPARE.split(), f"runs={self.folder}", "name=run")

    def play(self, reuse: str) -> Measured:
        """A pass by one worker that knows nothing of the tasks."""
        return self._pass(f"ours, reuse={reuse}", worker(self.run, self.begin(reuse), 0))

    def play_again(self, name: str) -> Measured:
        """A pass by one worker over tasks that the evaluation `name` has played before."""
        version = len(list(self.run.benchmark(name).parent.glob("[0-9]*")))
        if not self.run.policy(version).exists():
            shutil.copytree(self.run.policy(0), self.run.policy(version))
        return self._pass(f"ours, {name} again", worker(self.run, name, version))

    def play_on_slurm(self) -> Measured:
        """A pass by an array on a private Slurm; its daemons count."""
        from cluster import Cluster
        from slurm_conf import Settings

        site = ["site=test-cluster", "site.sandbox=bubblewrap", f"site.evaluate.elements={ELEMENTS}"]
        site += [f"site.images.{image}=''" for image in ("environment", "vllm", "megatron")]
        name = self.begin("never", f"environment.slots={self.setting.slots // ELEMENTS}", *site)
        cluster = Cluster.temporary(Settings())
        os.environ.update(cluster.env)
        with Group() as group:
            try:
                with group.inside():
                    cluster.start()
                before, began = group.cpu(), time.time()
                launch = [sys.executable, "jobs/evaluate.py", self.run.root, "--policy", "0", "--name", name]
                group.run(launch, LOOK, self.setting.patience, cwd=ROOT)
                memory = self._wait(group, self.run.evaluation(name, 0) / "timing.json")
                used = Used(time.time() - began, group.cpu() - before, memory, began)
            finally:
                cluster.stop()
        return self._measured(used, "ours, Slurm")

    def play_rival(self, name: str) -> Measured:
        """A pass by another system, in an environment of its own."""
        script = rivals.SCRIPTS / f"experience_{RIVALS[name][0]}.py"
        # Some keep what they did in the user's home, and the original AWorld reads all of it again in its next run.
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.folder))
        # -E: another checkout's PYTHONPATH would hide a rival of our name
        program = ["env", f"HOME={home}", rival(name), "-E", script, self.address, self.folder / "tasks.jsonl"]
        return self._pass(name, [*program, self.setting.slots, sys.executable], self.folder)  # some write logs there

    def begin(self, reuse: str, *more: str) -> str:
        """Fix the settings of a new evaluation; returns its name."""
        self.passes += 1
        name = f"pass-{self.passes}"
        words = ["tasks=jsonl", f"tasks.held_out_path={self.folder / 'tasks.jsonl'}", "environment.servers=[python]"]
        words += [f"environment.reuse={reuse}", f"environment.slots={self.setting.slots}", "evaluation.attempts=1"]
        words += ["agent.episode_seconds=600", f"evaluation.endpoint.model={slow_endpoint.MODEL}"]
        words += [f"evaluation.endpoint.base_url={self.address}", *more]
        python("jobs/evaluate.py", self.run.root, "--policy", "0", "--name", name, "--begin-only", *words)
        return name

    def _pass(self, who: str, command: Sequence[object], cwd: Path = ROOT) -> Measured:
        print(f"{who} …", file=sys.stderr, flush=True)
        slow_endpoint.asked(self.address)  # of a pass that failed
        with Group() as group:
            words, every = [str(word) for word in command], self.setting.bound / LOOKS
            used = group.run(words, every, self.setting.patience, cwd=cwd)
        return self._measured(used, who)

    def _measured(self, used: Used, who: str) -> Measured:
        turns = slow_endpoint.asked(self.address)
        return Measured(used, order_of(self.setting, who, turns), min(one.arrived for one in turns) - used.began)

    def _wait(self, group: Group, path: Path) -> int:
        """Wait for a file; returns the largest memory that was seen."""
        give_up, memory, next_look = time.monotonic() + self.setting.patience, 0, 0.0
        while not path.exists():
            if time.monotonic() > give_up:
                raise InfrastructureError(f"the jobs made no {path} in time; see {self.run.logs}")
            if time.monotonic() > next_look:
                memory, next_look = max(memory, group.memory()), time.monotonic() + LOOK
            time.sleep(POLL)
        return memory


def python(*words: object) -> None:
    """Run a command that is not measured.

    Raises:
        InfrastructureError: it failed.
    """
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InfrastructureError(f"{' '.join(command[1:])} failed: {done.stderr.strip()[-500:]}")


def worker(run: RunDir, name: str, version: int) -> list[object]:
    """The command of one worker, as each task of a job runs it."""
    return [sys.executable, "-m", "aworld", "evaluate", run.root, "--policy", version, "--tasks", name]
