"""What the launcher and the doctor ask of a real Slurm, without playing a whole run."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import Cluster
from slurm_conf import Settings
from small_run import ROOT, Run, alive, configured, copy, fill, hurry

from aworld import config as configuration
from aworld.config import Resources, Site
from aworld.doctor.visit import _compute, _mpi
from aworld.errors import InputError
from aworld.launch import dag, preview
from aworld.launch.plan import plan
from aworld.launch.script import render
from aworld.policies.abandoned import USERS, users_of
from aworld.publish import publish_text
from aworld.rollout.workload import schedule
from aworld.rundir import RunDir
from aworld.stages import GATHER, ROLLOUT, TRAIN, Stage
from aworld.tasks import make_source
from aworld.training.retention import prune_copies
from aworld.watch.queue import submissions

pytestmark = pytest.mark.cluster


@pytest.fixture
def run(cluster: Cluster, tmp_path: Path) -> Run:
    return configured(tmp_path)


def held(run: RunDir, elements: int) -> Stage:
    """An array of jobs that stay in the queue: no node ever has so much memory free for them all."""
    return Stage(ROLLOUT, run, Resources("low", elements=elements, mem_gb=60), 1)


def test_a_resume_with_more_elements_submits_only_those(cluster: Cluster, run: Run) -> None:
    fill(cluster)
    dag.submit(run.config, run.dir, [held(run.dir, 2)])
    (launched,) = dag.submit(run.config, run.dir, [held(run.dir, 5)])
    first, second = submissions(run.dir)
    assert (first.elements, second.elements) == ([0, 1], [2, 3, 4])
    assert launched.new == [second.job] and launched.kept == [first.job]
    assert set(alive(run.dir)["rollout-0001"]) == {0, 1, 2, 3, 4}
    script = cluster.slurm("scontrol", "write", "batch_script", second.job, "-")
    assert "#SBATCH --array=0-2%3" in script and "(SLURM_ARRAY_TASK_ID + 2) * 1" in script


def test_slurm_checks_each_kind_and_shape_once(cluster: Cluster, run: Run, tmp_path: Path) -> None:
    config = configuration.changed(run.config, ["site.rollout.elements=3", "site.array_limit=2", "pipeline.rounds=2"])
    stages = plan(config, run.dir, schedule(config, run.dir, make_source(config.tasks, run.dir.tasks)))
    said = list(preview.check(config, stages, tmp_path))
    assert [line.partition(": Job")[0] for line in said] == [
        *("rollout", "rollout", "gather", "train", "evaluate", "report")  # a rollout is an array of two and a job
    ]
    assert not list(tmp_path.glob("*.test-only"))
    config = configuration.changed(config, ["site.train.partition=gpus"])
    stages = plan(config, run.dir, schedule(config, run.dir, make_source(config.tasks, run.dir.tasks)))
    with pytest.raises(InputError, match=r"Slurm would refuse train-0000: .*Invalid partition name"):
        list(preview.check(config, stages, tmp_path))


def test_a_nodes_copies_in_the_run_directory_stay_until_its_jobs_have_ended(cluster: Cluster, run: Run) -> None:
    fill(cluster)
    jobs = cluster.slurm("sbatch", "--parsable", "-p", "high", "--array=0-1", "-o", "/dev/null", "--wrap", "sleep 600")
    waits = cluster.slurm("sbatch", "--parsable", "-p", "high", "-o", "/dev/null", "--wrap", "sleep 600")
    folder, other = (run.dir.root / "copies" / node for node in ("node-1", "node-2"))
    for copies, job in ((folder, jobs.strip()), (other, waits.strip())):
        publish_text(copies / USERS / job, "")
        for path in (copies / USERS / job, copies / USERS):
            os.utime(path, (0, 0))
    assert users_of(run.dir) == {
        folder: f"job {jobs.strip()} may use it",
        other: f"job {waits.strip()} may use it",
    }
    cluster.slurm("scancel", jobs.strip())
    run.wait_for(lambda: users_of(run.dir)[folder] == "", "the end of the job", every=1)
    prune_copies(run.dir)
    assert other.exists() and not folder.exists()
    cluster.slurm("scancel", waits.strip())
    run.wait_for(lambda: users_of(run.dir)[other] == "", "the end of the last job", every=1)


ELEMENT = """
echo "$SLURM_JOB_ID $SLURM_ARRAY_JOB_ID" >> {folder}/started-$SLURM_ARRAY_TASK_ID
while [ ! -e {folder}/started-1 ]; do sleep 0.1; done
if [ "$SLURM_ARRAY_TASK_ID" = 1 ]; then (exit 4); else sleep 10; fi
"""


def test_an_element_that_comes_back_leaves_the_others_alone(cluster: Cluster, tmp_path: Path) -> None:
    """Also the one that has the number of the whole array, as the last to start does."""
    script = tmp_path / "array.sbatch"
    options = {"partition": "low", "array": "0-1", "requeue": True, "output": "/dev/null"}
    script.write_text(render(options, ELEMENT.format(folder=tmp_path).strip(), Site(name="site"), run=str(tmp_path)))
    job = cluster.slurm("sbatch", "--parsable", str(script)).strip()
    give_up, starts = time.monotonic() + 60, tmp_path / "started-1"
    while not starts.exists() or len(starts.read_text().splitlines()) < 2:
        hurry()
        assert time.monotonic() < give_up
        time.sleep(0.5)
    assert starts.read_text().splitlines() == [f"{job} {job}"] * 2  # its number is the array's
    assert len((tmp_path / "started-0").read_text().splitlines()) == 1
    restarts = cluster.slurm("squeue", "--noheader", f"--job={job}_0", "--Format=RestartCnt").split()
    assert restarts in ([], ["0"])


KILLED = """
srun sh -c 'rm "$AWORLD_JOB.tries"; echo "$SLURM_STEP_ID ${{SLURM_RESTART_COUNT:-0}}" >>"{folder}/started"
[ "$(wc -l <"{folder}/started")" = 2 ] || kill -9 $$'
"""


@pytest.mark.parametrize(("signal_seconds", "second"), [(60, "1 0"), (600, "0 1")])
def test_a_step_whose_task_was_killed_starts_again_in_its_job(
    cluster: Cluster, tmp_path: Path, signal_seconds: int, second: str
) -> None:
    """Near the time limit the job goes back into the queue: the notice before it may be over."""
    script, started = tmp_path / "job.sbatch", tmp_path / "started"
    options = {"partition": "low", "requeue": True, "output": "/dev/null", "time": "10"}
    site = Site(name="site", signal_seconds=signal_seconds)
    script.write_text(render(options, KILLED.format(folder=tmp_path).strip(), site, run=str(tmp_path)))
    job = cluster.slurm("sbatch", "--parsable", str(script)).strip()
    assert wait_until_over(cluster, job) == ["COMPLETED", "0:0"]
    assert started.read_text().splitlines() == ["0 0", second]
    assert not list((tmp_path / "starts").iterdir())


SUBMIT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from aworld import config
from aworld.launch import dag, jobs
from aworld.rundir import RunDir
from test_launch import held
run = RunDir(Path(sys.argv[1]))
if len(sys.argv) > 3:
    jobs.append_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # right after sbatch
dag.submit(config.read(run.config), run, [held(run, 2)])
"""


def launcher(run: Run, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SUBMIT, str(run.dir.root), str(Path(__file__).parent), *words])


def test_a_launcher_killed_right_after_sbatch_leaves_no_stray(cluster: Cluster, run: Run, tmp_path: Path) -> None:
    fill(cluster)
    other = configured(tmp_path / "elsewhere")
    dag.submit(other.config, other.dir, [held(other.dir, 2)])  # a run of the same name is not mistaken for this one
    assert launcher(run, "killed").wait() == -signal.SIGKILL
    assert not submissions(run.dir)
    dag.submit(run.config, run.dir, [held(run.dir, 2)])
    (submission,) = submissions(run.dir)
    assert submission.elements == [0, 1] and submission.job != submissions(other.dir)[0].job
    assert run.command("cancel").stdout.strip() == f"cancelled {submission.job}"
    assert not alive(run.dir) and alive(other.dir)


def test_jobs_are_seen_whatever_the_shell_says(cluster: Cluster, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cluster)
    dag.submit(run.config, run.dir, [held(run.dir, 2)])
    shell = {"SQUEUE_STATES": "FAILED", "SQUEUE_PARTITION": "high", "SQUEUE_SORT": "i", "LOGNAME": "another"}
    with monkeypatch.context() as session:
        for name, value in shell.items():
            session.setenv(name, value)
        assert run.command("status").returncode == 10
        (launched,) = dag.submit(run.config, run.dir, [held(run.dir, 2)])
        assert launched.new == [] and len(launched.kept) == 1
        assert run.command("cancel").stdout.strip() == f"cancelled {launched.kept[0]}"
        assert run.command("status").returncode == 11


def test_a_copy_of_a_run_leaves_the_jobs_of_the_original_alone(cluster: Cluster, run: Run, tmp_path: Path) -> None:
    fill(cluster)
    dag.submit(run.config, run.dir, [held(run.dir, 2)])
    other = copy(run, tmp_path / "copy")
    assert other.command("cancel").stdout.strip() == "no job of this run waits or runs"
    (launched,) = dag.submit(other.config, other.dir, [held(other.dir, 2)])
    assert launched.kept == [] and launched.new != [run.job("rollout-0001")]
    assert set(alive(run.dir)["rollout-0001"].values()) == {run.job("rollout-0001")}


def test_jobs_of_the_plain_scripts_are_known(cluster: Cluster, run: Run, tmp_path: Path) -> None:
    fill(cluster)
    folder = tmp_path / "sbatch"
    shutil.copytree(ROOT / "sbatch", folder)
    for script in folder.glob("*.sbatch"):  # this site's lines
        asked = r"^#SBATCH --(account|partition|constraint|hint|gpus-per-node|mem|cpus-per-task)=.*\n"
        script.write_text(re.sub(asked, "", script.read_text(), flags=re.MULTILINE))
    done = subprocess.run([folder / "pipeline.sh", run.dir.root, "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = ["rollout-0000", "gather-0000", "train-0000", "evaluate-0000"]
    names += ["rollout-0001", "gather-0001", "train-0001", "evaluate-0001"]
    assert [each.stage for each in submissions(run.dir)] == names
    waiting = alive(run.dir)
    assert set(waiting) == set(names) and set(waiting["rollout-0001"]) == set(range(16))
    seen = run.command("status")
    assert seen.returncode == 10 and "16 pending" in seen.stdout
    assert len(run.command("cancel").stdout.split(",")) == 8
    assert not alive(run.dir)


def test_a_held_job_stops_the_run_only_where_nothing_else_moves(cluster: Cluster, run: Run) -> None:
    fill(cluster)
    dag.submit(run.config, run.dir, [held(run.dir, 2)])
    job = run.job("rollout-0001")
    cluster.slurm("scontrol", "hold", f"{job}_1")
    seen = run.command("status")
    assert seen.returncode == 10 and f"Slurm holds job {job}" in seen.stdout
    cluster.slurm("scontrol", "hold", job)
    assert run.command("status").returncode == 11


def test_two_launchers_at_once_submit_everything_once(cluster: Cluster, run: Run) -> None:
    fill(cluster)
    assert [process.wait() for process in [launcher(run) for _ in range(2)]] == [0, 0]
    (submission,) = submissions(run.dir)
    assert len(cluster.slurm("squeue", "--noheader", "--array", f"--name={submission.name}").splitlines()) == 2


def test_status_without_accounting(make_cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = make_cluster(Settings(nodes=2, accounting=False))
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    run = configured(tmp_path)
    config = configuration.changed(run.config, ["site.queue_seconds=2"])
    run.dir.config.write_text(configuration.to_yaml(config))
    cluster.slurm("sbatch", "-p", "high", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 600")
    dag.submit(run.config, run.dir, [held(run.dir, 2)])
    seen = run.command("status")
    assert seen.returncode == 10 and "2 pending" in seen.stdout  # a stage that only waits is shown
    watching = subprocess.Popen(
        [sys.executable, "-m", "aworld", "watch", str(run.dir.root), "--every", "1"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    time.sleep(5)
    assert watching.poll() is None
    run.command("cancel")
    shown, _ = watching.communicate(timeout=60)
    assert watching.returncode == 11 and "stopped" in shown
    seen = run.command("status")
    assert seen.returncode == 11 and "pending" not in seen.stdout


def test_the_doctor_says_which_mpi_makes_no_world(cluster: Cluster, run: Run) -> None:
    """PyPI's MPICH goes by pmi2; with pmix ranks are alone, or Slurm itself refuses."""
    found = {}
    for mpi in ("pmi2", "pmix"):
        config = configuration.changed(run.config, [f"site.mpi={mpi}", "site.environment={A_VARIABLE: 'a b'}"])
        (run.dir.root / "run.yaml").write_text(configuration.to_yaml(config))
        (found[mpi],) = _mpi(config, run.dir.root)
    assert found["pmi2"].level == "ok" and "one world of two nodes" in found["pmi2"].detail
    assert found["pmix"].level == "missing" and "pmi2 for MPICH" in found["pmix"].mend
    assert "Invalid MPI type 'pmix'" in found["pmix"].detail or "two worlds" in found["pmix"].detail


def test_the_doctor_does_not_wait_for_ever_for_a_node(cluster: Cluster, run: Run) -> None:
    fill(cluster)
    cluster.wait(lambda: set(cluster.node_states().values()) == {"allocated"})
    (node,) = _compute(run.config, "rollout", run.dir.root, wait=3)
    (mpi,) = _mpi(run.config, run.dir.root, wait=3)
    assert (node.level, node.detail) == ("missing", "no node of partition low came free within 3 s")
    assert (mpi.level, mpi.detail) == ("missing", "no two nodes of partition low came free within 3 s")
    assert "sinfo" in node.mend and "sinfo" in mpi.mend
    cluster.wait(lambda: len(cluster.slurm("squeue", "--noheader").splitlines()) == 1)  # only what fills the nodes
    config = configuration.changed(run.config, ["site.rollout.mem_gb=900"])
    (node,) = _compute(config, "rollout", run.dir.root, wait=3)
    assert "srun failed: " in node.detail and "site.rollout can be had" in node.mend


def test_the_doctor_looks_at_a_node_whose_setup_has_much_to_say(cluster: Cluster, run: Run) -> None:
    """More than a pipe holds."""
    config = configuration.changed(run.config, ["site.setup=['yes | head -c 200000 >&2']"])
    found = {check.name: check for check in _compute(config, "rollout", run.dir.root)}
    assert {"sandbox", "clock"} <= found.keys() and "a job" not in found
    assert found["sbatch in a job"].level == "ok", found["sbatch in a job"].detail


def wait_until_over(cluster: Cluster, job: str) -> list[str]:
    """The state and exit code of a job by sacct, once it has left the queue."""

    def is_over() -> bool:
        hurry()
        return job not in cluster.slurm("squeue", "--noheader", "--format=%A").split()

    cluster.wait(is_over)
    show = ("sacct", "-nXP", f"--jobs={job}", "--format=State,ExitCode")
    cluster.wait(lambda: cluster.slurm(*show).partition("|")[0] not in ("", "RUNNING", "PENDING", "REQUEUED"))
    return cluster.slurm(*show).split("|")


FROM_INSIDE = ["salloc", "-plow", "--mem-per-cpu=300", "--gpus=1", "--cpus-per-gpu=1"]


def test_what_is_submitted_inherits_nothing_of_an_allocation(cluster: Cluster, run: Run) -> None:
    """Memory by CPU and GPUs by job contradict what our jobs ask for, and their srun would refuse."""
    words = [sys.executable, "-c", INSIDE, str(run.dir.root), str(Path(__file__).parent)]
    cluster.slurm("env", "SBATCH_PARTITION=high", "SBATCH_JOB_NAME=mine", *FROM_INSIDE, *words)
    (submission,) = submissions(run.dir)
    assert wait_until_over(cluster, submission.job) == ["COMPLETED", "0:0"], run.last_words()
    show = ("sacct", "-nXP", f"--jobs={submission.job}", "--format=Partition,JobName")
    cluster.wait(lambda: not cluster.slurm(*show).startswith("|"))  # the database may learn of its end before its begin
    assert cluster.slurm(*show) == "low|run.logs"


INSIDE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from aworld import config
from aworld.launch import dag
from aworld.rundir import RunDir
from aworld.config import Resources, Site
from aworld.stages import Kind, Stage
run = RunDir(Path(sys.argv[1]))
dag.submit(config.read(run.config), run, [Stage(Kind("logs"), run, Resources("low", mem_gb=1))])
"""


def test_a_job_of_which_no_task_begins_is_put_back_twice(cluster: Cluster, run: Run) -> None:
    config = configuration.changed(run.config, ["site.mpi=none-such"])
    stage = Stage(GATHER, run.dir, Resources("low", mem_gb=1), 1)
    dag.submit(config, run.dir, [stage])
    job = run.job("gather-0001")
    assert wait_until_over(cluster, job) == ["FAILED", "3:0"], run.last_words()
    log = (run.dir.logs / f"{job}_0_log.out").read_text()
    assert log.count("Couldn't find the specified plugin name") == 2
    assert f"error: job {job} began 3 times, its tasks never; mend the cause above: aworld resume" in log


def test_the_rank_with_bad_input_tells_the_code_of_its_job(
    cluster: Cluster, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """srun ends the others, and returns the code of those."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\ntime.sleep(600 if os.environ.get('SLURM_PROCID') == '1' else 0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    stage, config = Stage(TRAIN, run.dir, Resources("low", nodes=2, mem_gb=1), 1), run.config
    run.dir.config.unlink()
    dag.submit(config, run.dir, [stage])
    job = run.job("train-0001")
    assert wait_until_over(cluster, job) == ["FAILED", "2:0"], run.last_words()
    log = (run.dir.logs / f"{job}_0_log.out").read_text()
    assert log.count("run.yaml is not there") == 1 and "began" not in log
    assert not list(run.dir.starts.glob("*.code"))
