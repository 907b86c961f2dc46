"""Stages as Slurm jobs, and what Slurm knows of them.

submitit writes the batch script, submits it and names the logs. The script runs the stage's own command, so that it can
be read, and submitted again by hand.
"""

import getpass
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.slurm.slurm import _make_sbatch_string

from aworld.errors import InfrastructureError, InputError
from aworld.launch.plan import Stage
from aworld.rundir import RunDir, append_json, read_jsonl
from aworld.site import Site

# bash would die of a signal that is meant for the step it waits for, and the job with it
OUTLIVE_SIGNALS = "trap : TERM USR1 USR2"
COME_BACK = [
    "code=$?",
    "# bad input and bad outcomes stay so; told to end, lost its machine, killed: again, unless the job was cancelled",
    "case $code in 0 | 2 | 3) exit $code ;; esac",
    'scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING && scontrol requeue "$SLURM_JOB_ID"',
    "exit $code",
]
SETTLED = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING")
SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Submission:
    """A line of `jobs.jsonl`: the job, or array, that plays these elements of a stage."""

    stage: str
    job: str
    elements: list[int]
    name: str


@dataclass(frozen=True)
class Queued:
    """An element of a submission that Slurm has in its queue, its state there, and why it waits."""

    submission: Submission
    element: int
    state: str
    reason: str

    @property
    def is_held(self) -> bool:
        return self.state == "PENDING" and "held" in self.reason.lower()  # as in "launch failed requeued held"


def submit(
    site: Site, run: RunDir, stage: Stage, after: list[str], elements: list[int] | None = None
) -> list[Submission]:
    """Submit a stage, in as many arrays as the site's limit demands, and note each in `jobs.jsonl`.

    Args:
        after: ids of the jobs that come first.
        elements: of the stage's array; None: all.

    Raises:
        InputError: Slurm refuses it, in its own words.
    """
    submissions = []
    left = list(range(stage.resources.elements)) if elements is None else elements
    for at in range(0, len(left), site.array_limit):
        part = left[at : at + site.array_limit]
        executor = _executor(site, run, stage, part, after)
        try:
            job = executor._submit_command(command(stage, part)).job_id
        except submitit.core.utils.FailedJobError as error:
            raise InputError(f"Slurm refuses {stage.name}: {last_line(str(error))}; mend site '{site.name}'") from None
        submission = Submission(stage.name, job, part, job_name(run, stage))
        append_json(run.jobs, {**asdict(submission), "after": after, "words": stage.words, "time": time.time()})
        submissions.append(submission)
    return submissions


def script(site: Site, run: RunDir, stage: Stage, after: list[str]) -> str:
    """The text of the first batch script that `submit` hands to sbatch."""
    part = list(range(min(site.array_limit, stage.resources.elements)))
    array = {"map_count": len(part)} if len(part) > 1 else {}
    return _make_sbatch_string(command(stage, part), run.logs, **array, **parameters(site, run, stage, after))


def command(stage: Stage, part: list[int]) -> str:
    """The shell command that every task of the job runs, for these elements of the stage's array.

    Their numbers may exceed what the site takes as an index of an array, so the job counts its own from 0.
    """
    words = shlex.join([sys.executable, "-u", "-m", "aworld", *stage.words])
    if not stage.has_workers:
        return words
    tasks = stage.resources.tasks
    if len(part) == 1:
        return f"{words} --worker {part[0] * tasks}"
    if part == list(range(part[0], part[0] + len(part))):
        return f"{words} --worker $(( (SLURM_ARRAY_TASK_ID + {part[0]}) * {tasks} ))"
    numbers = " ".join(str(element * tasks) for element in part)
    return f"{words} --worker $(set -- {numbers}; shift $SLURM_ARRAY_TASK_ID; echo $1)"


def job_name(run: RunDir, stage: Stage) -> str:
    return f"{run.root.name}.{stage.name}"


def parameters(site: Site, run: RunDir, stage: Stage, after: list[str]) -> dict[str, Any]:
    """What submitit is told about a job."""
    resources, gpus = stage.resources, stage.resources.gpus_per_node
    extra: dict[str, Any] = {"requeue": True, **site.sbatch}
    if after:
        kind = "afterany" if stage.come_what_may else "afterok"
        extra |= {"dependency": ":".join([kind, *after]), "kill-on-invalid-dep": "yes"}
    together = stage.words[0] in ("gather", "train")  # a rank that is lost would let the others wait
    wanted = {
        "job_name": job_name(run, stage),
        "time": resources.minutes,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks_per_node,
        "cpus_per_task": resources.cpus_per_task,
        "mem": f"{round(resources.mem_gb * 1024)}M",
        "partition": resources.partition or None,
        "account": site.account or None,
        "qos": resources.qos or None,
        "constraint": resources.constraint or None,
        "gpus_per_node": gpus if gpus and not site.gres else None,
        "gres": f"{site.gres}:{gpus}" if gpus and site.gres else None,
        "array_parallelism": site.array_parallel or site.array_limit,
        "signal_delay_s": site.signal_seconds,
        "setup": [
            OUTLIVE_SIGNALS,
            *site.setup,
            *(f"export {key}={shlex.quote(value)}" for key, value in site.environment.items()),
        ],
        "teardown": COME_BACK,
        "srun_args": [
            f"--mpi={site.mpi if stage.words[0] == 'gather' else 'none'}",
            f"--cpus-per-task={resources.cpus_per_task}",  # since 22.05 srun does not take it from sbatch
            f"--kill-on-bad-exit={int(together)}",
        ],
        "stderr_to_stdout": True,
        "additional_parameters": extra,
    }
    return {key: value for key, value in wanted.items() if value is not None} | {"wckey": None}


def submissions(run: RunDir) -> list[Submission]:
    """Every submission of the run so far, the oldest first."""
    keys = ("stage", "job", "elements", "name")
    return [Submission(**{key: row[key] for key in keys}) for row in read_jsonl(run.jobs) if "elements" in row]


def alive(run: RunDir) -> dict[str, dict[int, str]]:
    """The elements of each stage that wait or run, and their jobs, by one call of squeue.

    A job that is just ending may be about to come back or about to go: it is asked for again until that is decided.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    give_up = time.monotonic() + SETTLE_SECONDS
    while True:
        found: dict[str, dict[int, str]] = {}
        queued = [each for each in queue(run) if each.reason != "DependencyNeverSatisfied"]
        for each in queued:
            found.setdefault(each.submission.stage, {})[each.element] = each.submission.job
        if all(each.state in SETTLED for each in queued) or time.monotonic() > give_up:
            return found
        time.sleep(1)


def queue(run: RunDir) -> list[Queued]:
    """What squeue shows of the run's jobs.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    mine = {(submission.job, submission.name): submission for submission in submissions(run)}
    if not mine:
        return []
    found = []
    shown = ask("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%F|%K|%j|%T|%r")
    for line in shown.splitlines():
        job, index, name, state, reason = line.strip().split("|", 4)
        if submission := mine.get((job, name)):
            element = submission.elements[int(index) if index.isdigit() else 0]
            found.append(Queued(submission, element, state, reason))
    return found


def release(run: RunDir) -> list[str]:
    """Release the jobs that Slurm holds, as it does where a job could not be launched; returns their ids.

    Raises:
        InputError: an administrator holds one.
    """
    held = {each.submission.job: each.reason for each in queue(run) if each.is_held}
    for job, reason in held.items():
        if reason == "JobHeldAdmin":
            raise InputError(f"job {job} is held by an administrator; ask why, or end it: scancel {job}")
    if held:
        ask("scontrol", "release", *held)
    return sorted(held)


def job_table(jobs: list[str]) -> dict[str, str]:
    """The state of jobs and array elements, by sacct; by squeue where Slurm keeps no accounts.

    Elements of an array that has not begun may be known only together, under the array's own id.
    """
    ids = ",".join(jobs)
    try:
        shown = ask("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={ids}", "--format=JobID,State")
    except InfrastructureError:
        shown = ask("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i|%T")
    found = {}
    for line in shown.splitlines():
        job, state = line.split("|")
        found[job.partition("_[")[0]] = state.split()[0]  # sacct says CANCELLED by 1000
    return found


def checked(site: Site, run: RunDir, stage: Stage, folder: Path) -> str:
    """What `sbatch --test-only` says of a stage's script in `folder`.

    Raises:
        InputError: Slurm would refuse it.
    """
    path = folder / f"{stage.name}.test-only"
    path.write_text(script(site, run, stage, []))  # there are no jobs yet that it could depend on
    done = subprocess.run(["sbatch", "--test-only", path], capture_output=True, text=True, check=False)
    path.unlink()
    if done.returncode:
        raise InputError(f"Slurm would refuse {stage.name}: {last_line(done.stderr)}; mend site '{site.name}'")
    return last_line(done.stderr).removeprefix("sbatch: ")


def cancel(run: RunDir) -> list[str]:
    """Cancel what waits or runs; returns the job ids."""
    jobs = sorted({job for elements in alive(run).values() for job in elements.values()})
    if jobs:
        ask("scancel", *jobs)
    return jobs


def ask(*words: str) -> str:
    """What a command of Slurm answers.

    Raises:
        InfrastructureError: it is not there, or fails.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError:
        raise InfrastructureError(f"no {words[0]} on PATH; load Slurm's module, or use site=local") from None
    if done.returncode:
        raise InfrastructureError(f"{words[0]} failed: {last_line(done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("sbatch: error: ") if lines else "it said nothing"


def _executor(site: Site, run: RunDir, stage: Stage, part: list[int], after: list[str]) -> submitit.SlurmExecutor:
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError(f"no sbatch on PATH, which site '{site.name}' needs; load Slurm's module, or use site=local")
    run.logs.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=str(run.logs))
    executor.update_parameters(**parameters(site, run, stage, after))
    if len(part) > 1:
        executor.parameters["map_count"] = len(part)
    return executor
