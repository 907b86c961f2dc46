"""A killer for whole runs: every few seconds one random, seeded fault of the kinds that clusters know."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil
from cluster import Cluster
from small_run import Run, hurry

FINISHED, UNDER_WAY = 0, 10
DAEMONS = {"munged", "mariadbd", "slurmdbd", "slurmctld", "slurmscriptd", "slurmd", "slurmstepd"}


class Killer:
    """Strikes while the run has something running.

    Attributes:
        kills: how often each kind of fault has struck something of the run.
        resumes: how often the run had stopped, and was resumed as its user would.
    """

    def __init__(self, cluster: Cluster, seed: int, tell: Callable[[int], None] = lambda struck: None):
        """`tell` is called after each strike, with how many there were."""
        self._tell = tell
        self.cluster, self.random = cluster, random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.resumes = 0
        self._kinds: list[tuple[int, Callable[[], bool]]] = [
            (8, self.kill_a_process),
            (4, self.requeue_a_job),
            (2, self.preempt),
            (2, self.lose_a_node),
            (1, self.lose_the_controller),
            (1, self.cancel_a_job),
        ]

    def run_to_the_end(
        self,
        run: Run,
        every: float,
        kills: int,
        seconds: float,
        resume: Callable[[], object] | None = None,
        due: Callable[[int], bool] = lambda struck: True,
    ) -> None:
        """Strike about `every` seconds until there were `kills` in all, then let the run end; `resume` it if it stops.

        `due` says whether it is time for one more, after so many; so a run may be struck at its own pace.

        Raises:
            AssertionError: it does not end within `seconds`.
        """
        give_up = time.monotonic() + seconds
        while True:
            assert time.monotonic() < give_up, f"the run did not end; {run.last_words()}"
            strikes = self.kills.total() < kills
            time.sleep(self.random.uniform(0.5, 1.5) * (every if strikes else max(every, 1.0)))
            if strikes and due(self.kills.total()):
                self.strike()
            self.cluster.resume_drained_nodes()  # a controller that forgot a job takes away the node where it runs
            hurry()
            if self.jobs("RUNNING"):
                continue  # it is under way; to ask for its status takes computing, and a fast run might end unstruck
            code = self._where(run)
            if code == FINISHED and not self.jobs():
                return
            if code not in (FINISHED, UNDER_WAY):
                self.resumes += 1
                (resume or (lambda: run.command("resume")))()

    def strike(self) -> None:
        """One fault, of the first kind that finds something to hit."""
        for _ in range(10):
            weights = [weight for weight, _ in self._kinds]
            (_, kind) = self.random.choices(self._kinds, weights)[0]
            with suppress(subprocess.CalledProcessError):  # what it aimed at ended just now
                if kind():
                    self.kills[kind.__name__] += 1
                    self._tell(self.kills.total())
                    return

    def kill_a_process(self) -> bool:
        """SIGKILL for a worker, a vLLM, a trainer, an MPI rank, a tool server, or whatever they have started."""
        found = self.cluster.processes()
        self.random.shuffle(found)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                if process.name() not in DAEMONS and not _is_urgent(process):
                    process.kill()
                    return True
        return False

    def requeue_a_job(self) -> bool:
        return self._of_a_job("scontrol", "requeue")

    def cancel_a_job(self) -> bool:
        return self._of_a_job("scancel")

    def preempt(self) -> bool:
        nodes = self._nodes()
        if nodes:
            some = self.random.sample(nodes, self.random.randint(1, len(nodes)))
            where = [f"-N{len(some)}", f"--nodelist={','.join(some)}"]
            self.cluster.slurm("sbatch", "-phigh", *where, "--exclusive", "-o/dev/null", "--wrap=sleep 1")
        return bool(nodes)

    def lose_a_node(self) -> bool:
        """A node dies with all that runs there, and comes back at once."""
        nodes = self._nodes()
        if nodes:
            node = self.random.choice(nodes)
            self.cluster.kill_slurmd(node)
            self.cluster.take_down(node)
            self.cluster.start_slurmd(node)
        return bool(nodes)

    def lose_the_controller(self) -> bool:
        time.sleep(5.5)  # what it was told in the last five seconds it may not have written down
        runs = bool(self.jobs("RUNNING"))
        if runs:
            self.cluster.kill_slurmctld()
            self.cluster.start_slurmctld()
        return runs

    def _of_a_job(self, *command: str) -> bool:
        jobs = self.jobs("RUNNING")
        if jobs:
            self.cluster.slurm(*command, self.random.choice(jobs))
        return bool(jobs)

    def _nodes(self) -> list[str]:
        """Where something of the run is running."""
        used = self.cluster.slurm("squeue", "--noheader", "--partition=low", "--states=RUNNING", "--format=%N").split()
        return sorted(set(self.cluster.slurm("scontrol", "show", "hostnames", ",".join(used)).split())) if used else []

    def jobs(self, *states: str) -> list[str]:
        words = [f"--states={','.join(states)}"] if states else []
        return self.cluster.slurm("squeue", "--noheader", "--array", "--partition=low", "--format=%i", *words).split()

    def _where(self, run: Run) -> int:
        return run.command("status").returncode


def _is_urgent(process: psutil.Process) -> bool:
    """Whether it belongs to a job that is here to preempt the run's."""
    try:
        return process.environ().get("SLURM_JOB_PARTITION") == "high"
    except psutil.AccessDenied:  # what runs in a sandbox
        return False
