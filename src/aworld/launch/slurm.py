"""Stages as Slurm jobs: submitted through submitit, which names the logs, and what Slurm knows of them."""

import getpass
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import submitit

from aworld.errors import InfrastructureError, InputError
from aworld.launch.plan import Stage
from aworld.launch.script import Part, command, job_name, parameters, parts
from aworld.processes import hold
from aworld.rundir import RunDir, append_json, publish_json, read_jsonl
from aworld.site import Site

ANSWER_SECONDS = 120.0  # the longest wait for a command of Slurm
UNREACHABLE = ("Unable to contact slurm controller", "Could not establish a configuration source")
SETTLED = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING")
SETTLE_SECONDS, SETTLE_EVERY = 60.0, 5.0


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


@contextmanager
def submitting(run: RunDir) -> Iterator[None]:
    """Only one launcher of this node at a time submits jobs of the run; another waits here for its turn."""
    with hold(run.lock("submit")):
        _adopt(run)
        yield


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
    for part in parts(site, stage, elements):
        executor = _executor(site, run, stage, part, after)
        name = job_name(run, stage)
        note: dict[str, Any] = {
            "stage": stage.name,
            "elements": part.elements,
            "name": name,
            "after": after,
            "words": stage.words,
        }
        note["time"] = time.time()
        publish_json(_note(run), note)  # should this process end before the job is noted, the next one finds it
        try:
            job = executor._submit_command(command(stage, part.elements)).job_id
        except submitit.core.utils.FailedJobError as error:
            raise InputError(f"Slurm refuses {stage.name}: {last_line(str(error))}; mend site '{site.name}'") from None
        submission = Submission(stage.name, job, part.elements, name)
        append_json(run.jobs, note | asdict(submission))
        submissions.append(submission)
    return submissions


def submissions(run: RunDir) -> list[Submission]:
    """Every submission of the run so far, the oldest first."""
    keys = ("stage", "job", "elements", "name")
    return [Submission(**{key: row[key] for key in keys}) for row in read_jsonl(run.jobs) if "elements" in row]


def _note(run: RunDir) -> Path:
    """What is being submitted, or was last."""
    return run.root / "submitting.json"


def _adopt(run: RunDir) -> None:
    """Note the job whose launcher was killed between sbatch and noting it, if it is still in the queue."""
    note = json.loads(_note(run).read_text()) if _note(run).exists() else None
    if note is None or any(row["time"] == note["time"] for row in read_jsonl(run.jobs)):
        return
    known = {submission.job for submission in submissions(run)}
    # the name alone is not enough: another run directory may have the same one
    for job, name, program in _squeue("%F|%j|%o"):
        if job not in known and name == note["name"] and Path(program).is_relative_to(run.logs.absolute()):
            append_json(run.jobs, note | {"job": job})
            known.add(job)


def queue(run: RunDir) -> list[Queued]:
    """What squeue shows of the run's jobs, by one call.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    mine = {(submission.job, submission.name): submission for submission in submissions(run)}
    found = []
    for job, index, name, state, reason in _squeue("%F|%K|%j|%T|%r") if mine else ():
        if submission := mine.get((job, name)):
            element = submission.elements[int(index) if index.isdigit() else 0]
            found.append(Queued(submission, element, state, reason))
    return found


def _squeue(columns: str) -> Iterator[list[str]]:
    """The rows of squeue, an element of an array each."""
    shown = ask("squeue", "--noheader", "--array", f"--user={getpass.getuser()}", f"--format={columns}")
    for line in shown.splitlines():
        yield line.strip().split("|", columns.count("|"))


def elements(queued: Iterable[Queued]) -> dict[str, dict[int, str]]:
    """The elements of each stage that wait or run, and their jobs."""
    found: dict[str, dict[int, str]] = {}
    for each in queued:
        if each.reason != "DependencyNeverSatisfied":
            found.setdefault(each.submission.stage, {})[each.element] = each.submission.job
    return found


def alive(run: RunDir) -> dict[str, dict[int, str]]:
    """`elements` of what squeue shows now."""
    return elements(queue(run))


def settled(run: RunDir) -> list[Queued]:
    """What squeue shows once no job is just ending: one that is may be about to come back, or about to go.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    give_up = time.monotonic() + SETTLE_SECONDS
    while True:
        queued = queue(run)
        if all(each.state in SETTLED for each in queued) or time.monotonic() > give_up:
            return queued
        time.sleep(SETTLE_EVERY)


def release(queued: list[Queued]) -> list[str]:
    """Release the jobs that Slurm holds, as it does where a job could not be launched; returns their ids.

    Raises:
        InputError: an administrator holds one.
    """
    held = {each.submission.job: each.reason for each in queued if each.is_held}
    for job, reason in held.items():
        if reason == "JobHeldAdmin":
            raise InputError(f"job {job} is held by an administrator; ask why, or end it: scancel {job}")
    if held:
        ask("scontrol", "release", *held)
    return sorted(held)


def accounts(jobs: list[str]) -> dict[str, str]:
    """The states of jobs and array elements by sacct, also of those that are over; empty where Slurm keeps no accounts.

    Elements of an array that has not begun may be known only together, under the array's own id.
    """
    try:
        shown = ask(
            "sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(jobs)}", "--format=JobID,State"
        )
    except InfrastructureError:
        return {}
    rows = (line.split("|") for line in shown.splitlines())
    return {job.partition("_[")[0]: state.split()[0] for job, state in rows}  # sacct says CANCELLED by 1000


def checked(site: Site, stage: Stage, text: str, folder: Path) -> str:
    """What `sbatch --test-only` says of the text of a stage's script, which must depend on no job.

    Raises:
        InputError: Slurm would refuse it.
        InfrastructureError: Slurm does not answer.
    """
    if shutil.which("sbatch") is None:
        raise InputError("no sbatch on PATH; go to a login node of the cluster, or load Slurm's module")
    path = folder / f"{stage.name}.test-only"
    path.write_text(text)
    try:
        command = ["sbatch", "--test-only", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"sbatch did not answer within {ANSWER_SECONDS} s; try again later") from None
    finally:
        path.unlink()
    if any(words in done.stderr for words in UNREACHABLE):
        raise InfrastructureError(
            f"Slurm does not answer here ({last_line(done.stderr)}); go to a login node, or set SLURM_CONF"
        )
    if done.returncode:
        raise InputError(f"Slurm would refuse {stage.name}: {last_line(done.stderr)}; mend site '{site.name}'")
    return last_line(done.stderr).removeprefix("sbatch: ")


def cancel(run: RunDir) -> list[str]:
    """Cancel what waits or runs, and wait until it has ended; returns the job ids."""
    with submitting(run):
        jobs = sorted({each.submission.job for each in queue(run)})
        if jobs:
            ask("scancel", *jobs)
            settled(run)
    return jobs


def ask(*words: str) -> str:
    """What a command of Slurm answers.

    Raises:
        InfrastructureError: it is not there, or fails, or does not answer.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    except FileNotFoundError:
        raise InfrastructureError(f"no {words[0]} on PATH; load Slurm's module, or use site=local") from None
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"{words[0]} gave no answer within {ANSWER_SECONDS:g} s; try again later") from None
    if done.returncode:
        raise InfrastructureError(f"{words[0]} failed: {last_line(done.stderr)}")
    return done.stdout


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("sbatch: error: ") if lines else "it said nothing"


def _executor(site: Site, run: RunDir, stage: Stage, part: Part, after: list[str]) -> submitit.SlurmExecutor:
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError(f"no sbatch on PATH, which site '{site.name}' needs; load Slurm's module, or use site=local")
    run.logs.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=str(run.logs))
    executor.update_parameters(**parameters(site, run, stage, part, after))
    if len(part.elements) > 1:
        executor.parameters["map_count"] = len(part.elements)
    return executor
