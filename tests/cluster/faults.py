"""What befalls a stage on a real Slurm while it works, one function each."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
from cluster import Cluster
from killer import DAEMONS
from small_run import Run, hurry

Fault = Callable[[Cluster, Run, str], None]


def preempt(cluster: Cluster, run: Run, job: str) -> None:
    """A job of the high partition takes every node for some seconds."""
    urgent = cluster.slurm("sbatch", "--parsable", "-phigh", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 3")

    def is_over() -> bool:
        shown = cluster.slurm("scontrol", "show", "job", urgent)
        assert not any(f"JobState={state}" in shown for state in ("FAILED", "CANCELLED", "NODE_FAIL")), shown
        return "JobState=COMPLETED" in shown

    cluster.wait(is_over, seconds=300)


def requeue(cluster: Cluster, run: Run, job: str) -> None:
    cluster.slurm("scontrol", "requeue", job)


def lose_the_node(cluster: Cluster, run: Run, job: str) -> None:
    """The node dies with all that runs there, and comes back."""
    name = node_of(cluster, job)
    cluster.kill_slurmd(name)
    cluster.take_down(name)
    cluster.start_slurmd(name)


def lose_sight_of_the_node(cluster: Cluster, run: Run, job: str) -> None:
    """Only slurmd dies: Slurm starts the work again, and the first copy, which hung meanwhile, goes on."""
    name = node_of(cluster, job)
    os.kill(cluster._pid(name), signal.SIGKILL)
    began = len(run.starts("rollout-0001"))

    def is_copied() -> bool:
        hurry()
        return len(run.starts("rollout-0001")) > began

    with paused(cluster, name):
        cluster.take_down(name)
        run.wait_for(is_copied, "the second copy", every=1)


def restart_the_controller(cluster: Cluster, run: Run, job: str) -> None:
    """It may then take a job that ended meanwhile for lost, and start it again."""
    saved, now = cluster.folder / "state" / "job_state", time.time()
    cluster.slurm("scontrol", "update", f"JobId={job}", "Comment=to be written down")
    with paused(cluster):
        cluster.wait(lambda: saved.stat().st_mtime > now)
        assert "RUNNING" in cluster.slurm("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%T").split()
        cluster.kill_slurmctld()
    time.sleep(1)
    cluster.start_slurmctld()


def warn_of_the_time_limit(cluster: Cluster, run: Run, job: str) -> None:
    """As Slurm does so many seconds before it; a resident trainer meets a real one in `test_runs.py`."""
    cluster.slurm("scancel", "--signal=USR2", job)


@contextmanager
def paused(cluster: Cluster, node: str = "") -> Iterator[None]:
    """What jobs have started hangs meanwhile, so that it does not end before the fault has struck."""
    hung = []
    try:
        for process in cluster.processes(node):
            with suppress(psutil.NoSuchProcess):
                if process.name() not in DAEMONS | {"srun"}:  # srun takes SIGCONT for a preemption
                    process.suspend()
                    hung.append(process)
        yield
    finally:
        for process in hung:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def node_of(cluster: Cluster, job: str) -> str:
    """The first node where a job, or one of its elements, runs."""
    nodes = cluster.slurm("squeue", "--noheader", "--array", f"--jobs={job}", "--states=RUNNING", "--format=%N")
    return cluster.slurm("scontrol", "show", "hostnames", nodes.split()[0]).split()[0]
