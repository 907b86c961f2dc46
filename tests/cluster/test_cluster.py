"""The private Slurm behaves as a real site does: it preempts, loses nodes, restarts, and remembers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cluster import Cluster, end_orphans
from slurm_conf import GPUS, MAX_ARRAY_SIZE, Settings

pytestmark = pytest.mark.cluster

PROGRAM = Path(__file__).with_name("cluster.py")
# Says what it hears; the second time it starts it ends at once.
SCRIPT = """#!/bin/bash
trap 'echo heard USR1' USR1
trap 'echo heard TERM' TERM
echo "start ${SLURM_RESTART_COUNT:-0} on $SLURMD_NODENAME"
[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && exit
while true; do sleep 0.2; done
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "job.sh"
    path.write_text(SCRIPT)
    return str(path)


def submit(cluster: Cluster, *words: str) -> str:
    """The job's id."""
    return cluster.slurm("sbatch", "--parsable", *words)


def state(cluster: Cluster, job: str) -> str:
    """PENDING, RUNNING, …; "" once it is out of the queue."""
    return cluster.slurm("squeue", "--noheader", "--format=%T", "--states=PD,R,CG", f"--jobs={job}")


@pytest.fixture(scope="module", autouse=True)
def preempted(make_cluster, tmp_path_factory) -> list[tuple[Cluster, Path]]:
    """Two more clusters, and in each the log of a job in low that one in high has just asked to go.

    The kill comes between `grace` and `grace` + 30 seconds later, when slurmctld next looks at time limits, so this
    happens while the other tests run.
    """
    clusters = [make_cluster(Settings(nodes=2, accounting=False, user_signal=on, grace=3)) for on in (True, False)]
    folder = tmp_path_factory.mktemp("preempted")
    (folder / "job.sh").write_text(SCRIPT)
    all_gpus = ["-N2", f"--gpus-per-node={GPUS}", "--open-mode=append"]
    for cluster in clusters:
        log = folder / cluster.name
        low = submit(cluster, *all_gpus, "--signal=B:USR1@60", f"--output={log}", str(folder / "job.sh"))
        cluster.wait(lambda log=log: log.exists() and "start 0" in log.read_text())
        high = submit(cluster, *all_gpus, "--partition=high", "--output=/dev/null", "--wrap=sleep 1")
        assert f"FirstJobId={low}" in cluster.conf.read_text().splitlines()  # so neither sees the other's jobs
        assert int(high) == int(low) + 1
    return [(cluster, folder / cluster.name) for cluster in clusters]


def test_all_nodes_are_idle(cluster):
    assert cluster.node_states() == dict.fromkeys(cluster.nodes, "idle")
    assert len(cluster.nodes) == 4


@pytest.mark.parametrize("words", [["--gpus-per-node=3"], ["--gres=gpu:3"], ["--gres=gpu:h100:3"]])
def test_a_job_over_two_nodes_gets_its_gpus(cluster, words):
    said = cluster.slurm("srun", "-N2", *words, "sh", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
    assert sorted(said.splitlines()) == ["node1 0,1,2", "node2 0,1,2"]


def test_an_array_that_is_too_large_is_refused(cluster, script):
    assert submit(cluster, "--hold", f"--array=0-{MAX_ARRAY_SIZE - 1}", script)
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        submit(cluster, "--hold", f"--array=0-{MAX_ARRAY_SIZE}", script)
    assert "Invalid job array specification" in refusal.value.stderr


def test_starting_it_again_changes_nothing(cluster):
    before = {process.pid for process in cluster.processes()}
    cluster.start()
    assert {process.pid for process in cluster.processes()} == before


@pytest.mark.deep
def test_the_jobs_of_a_dead_node_run_elsewhere_and_the_node_comes_back(cluster, script, tmp_path):
    log = tmp_path / "log"
    job = submit(cluster, "--open-mode=append", f"--output={log}", script)
    cluster.wait(lambda: log.exists() and "start 0" in log.read_text())
    node = log.read_text().split()[-1]
    cluster.kill_slurmd(node)
    cluster.wait(lambda: cluster.node_states()[node].startswith("down"), seconds=180)
    cluster.wait(lambda: "start 1" in log.read_text(), seconds=180)
    cluster.wait(lambda: not state(cluster, job))
    assert f"start 1 on {node}" not in log.read_text()
    cluster.start_slurmd(node)
    cluster.wait(lambda: cluster.node_states()[node] == "idle")


def test_a_restarted_slurmctld_keeps_the_queue(cluster, script):
    runs = submit(cluster, "--output=/dev/null", script)
    waits = submit(cluster, "--output=/dev/null", "--begin=now+1hour", script)
    cluster.wait(lambda: state(cluster, runs) == "RUNNING")
    saved, now = cluster.folder / "state" / "job_state", time.time()
    cluster.slurm("scontrol", "update", f"jobid={waits}", "comment=x")  # a change that it saves
    cluster.wait(lambda: saved.stat().st_mtime > now)
    cluster.kill_slurmctld()
    assert not cluster.running()
    cluster.start()
    assert [state(cluster, runs), state(cluster, waits)] == ["RUNNING", "PENDING"]


def test_accounting_remembers_a_job(cluster):
    job = submit(cluster, "--output=/dev/null", "--wrap=exit 3")
    show = ["sacct", "-nXP", f"--jobs={job}", "--format=State,ExitCode"]
    cluster.wait(lambda: cluster.slurm(*show) == "FAILED|3:0")


def test_nothing_is_left_after_stop(make_cluster, tmp_path):
    cluster = make_cluster(Settings(nodes=1, accounting=False))
    pids = tmp_path / "pids"
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\nenv -i sleep 1000 &\nsetsid sleep 1000 &\necho $$ $(jobs -p) > {pids}.new\n")
    with script.open("a") as f:
        f.write(f"mv {pids}.new {pids}\nwait\n")
    submit(cluster, "--output=/dev/null", str(script))
    cluster.wait(pids.exists)
    everything = {process.pid for process in cluster.processes()} | {int(pid) for pid in pids.read_text().split()}
    assert len(everything) >= 7  # munged, slurmctld, slurmd, slurmstepd, the script and its two children
    cluster.stop()
    assert not everything & set(psutil.pids())
    assert not cluster.folder.exists()


def test_a_cluster_whose_owner_was_killed_is_ended_by_the_next(cluster):
    program = (
        "from cluster import *; c = Cluster.temporary(Settings(nodes=1, accounting=False)); c.start();"
        "print(c.folder, flush=True); c.kill_slurmd('node1'); import os; os.kill(os.getpid(), 9)"
    )
    env = os.environ | {"PYTHONPATH": f"{PROGRAM.parent}:{os.environ.get('PYTHONPATH', '')}"}
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    orphan = Cluster(Path(killed.stdout.strip()))
    assert orphan.processes()
    end_orphans()
    assert not orphan.processes()
    assert not orphan.folder.exists()
    assert cluster.processes()


def test_the_command_line(short_folder):
    def run(action: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(PROGRAM), action, f"--folder={short_folder}"]
        return subprocess.run(words, capture_output=True, text=True)

    assert (run("status").returncode, run("env").returncode) == (2, 2)
    started = run("start")
    try:
        assert started.returncode == 0, started.stderr
        assert run("env").stdout.strip() == f"export SLURM_CONF={short_folder}/slurm.conf"
        assert run("env").stdout.strip() in started.stdout
        assert run("status").stdout.count("idle") == 8  # four nodes in two partitions
    finally:
        assert run("stop").returncode == 0
    assert not short_folder.exists()


def test_a_job_in_low_was_preempted_and_requeued(preempted):
    for cluster, log in preempted:
        cluster.wait(lambda log=log: "start 1" in log.read_text(), seconds=180)
        cluster.wait(lambda cluster=cluster: cluster.slurm("squeue", "--noheader") == "")
        assert "heard TERM" in log.read_text()
        assert ("heard USR1" in log.read_text()) == cluster.settings.user_signal
