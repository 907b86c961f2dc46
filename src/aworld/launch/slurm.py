"""Stages as Slurm jobs: submitted through submitit, which names the logs, and what Slurm knows of them."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import submitit

from aworld.config import Site
from aworld.errors import InfrastructureError, InputError
from aworld.launch.plan import Stage
from aworld.launch.script import Part, command, job_name, parameters, parts
from aworld.locks import hold
from aworld.publish import append_json, publish_json, read_jsonl
from aworld.rundir import RunDir

ANSWER_SECONDS = 120.0  # the longest wait for a command of Slurm
# What the user's shell says to Slurm's commands. A submission from inside an allocation would ask for what that one
# has, and squeue would leave out jobs. Only where Slurm is, and who asks, is passed on.
SPOKEN = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SCONTROL_")
PASSED_ON = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
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


def unspoken(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The variables that no command of Slurm may see, and no job may inherit."""
    return [name for name in environment if name.startswith(SPOKEN) and name not in PASSED_ON]


def clean_environment() -> dict[str, str]:
    """The environment of every command of Slurm that is run here."""
    left_out = set(unspoken())
    return {name: value for name, value in os.environ.items() if name not in left_out}


class _Executor(submitit.SlurmExecutor):
    """submitit's, but sbatch gets `clean_environment`."""

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        unset = [word for name in unspoken() for word in ("--unset", name)]
        return ["env", *unset, *super()._make_submission_command(submission_file_path)]


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
            "run": str(run.root.absolute()),
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
    """Every submission of the run so far, the oldest first; of a copied folder, none of the original's."""
    rows = [row for row in read_jsonl(run.jobs) if "elements" in row]
    elsewhere = {place for place in {row["run"] for row in rows if "run" in row} if not _is_here(place, run)}
    keys = ("stage", "job", "elements", "name")
    return [Submission(**{key: row[key] for key in keys}) for row in rows if row.get("run") not in elsewhere]


def _is_here(place: str, run: RunDir) -> bool:
    """Whether a job that works in the folder `place` works in this one, whatever either is called."""
    with suppress(OSError):
        return Path(place).samefile(run.root)
    return False


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
    for job, program, name in _squeue("%F|%o|%j", f"--user={os.getuid()}"):
        if job not in known and name == note["name"] and _belongs(program, run):
            append_json(run.jobs, note | {"job": job})
            known.add(job)


def _belongs(program: str, run: RunDir) -> bool:
    return Path(program).resolve().is_relative_to(run.logs.resolve())


def queue(run: RunDir) -> list[Queued]:
    """What squeue shows of the run's jobs, by one call.

    Raises:
        InfrastructureError: Slurm does not answer.
    """
    mine = {submission.job: submission for submission in submissions(run)}
    found = []
    # by id, so that another user sees them as well
    for job, index, state, reason, name in _squeue("%F|%K|%T|%r|%j", f"--jobs={','.join(mine)}") if mine else ():
        if name == mine[job].name:  # where Slurm began to count anew, another job has that id
            element = mine[job].elements[int(index) if index.isdigit() else 0]
            found.append(Queued(mine[job], element, state, reason))
    return found


def newest(run: RunDir) -> dict[tuple[str, int], Submission]:
    """The last submission of every element of every stage."""
    return {(each.stage, element): each for each in submissions(run) for element in each.elements}


def _squeue(columns: str, which: str) -> list[list[str]]:
    """The rows of squeue, an element of an array each. The last column may hold the sign between columns.

    Raises:
        InfrastructureError: it does not answer, or with something else.
    """
    try:
        shown = ask("squeue", "--noheader", "--array", which, f"--format={columns}")
    except InfrastructureError as reason:
        if "Invalid job id" in str(reason):  # the only one that was asked for is forgotten
            return []
        raise
    rows = [line.strip().split("|", columns.count("|")) for line in shown.splitlines()]
    for row in rows:
        if len(row) <= columns.count("|"):
            raise InfrastructureError(f"squeue printed '{'|'.join(row)}', not {columns}; is it Slurm's own?")
    return rows


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
            "sacct",
            "--noheader",
            "--allusers",
            "--parsable2",
            "--allocations",
            f"--jobs={','.join(jobs)}",
            "--format=JobID,State",
        )
    except InfrastructureError:
        return {}
    rows = (line.split("|") for line in shown.splitlines())
    # sacct says CANCELLED by 1000; what is no row is of no use, and squeue is asked as well
    return {row[0].partition("_[")[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].strip()}


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
        done = _run(command)
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
        done = _run(words)
    except FileNotFoundError:
        raise InfrastructureError(f"no {words[0]} on PATH; load Slurm's module, or use site=local") from None
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"{words[0]} gave no answer within {ANSWER_SECONDS:g} s; try again later") from None
    if done.returncode:
        raise InfrastructureError(f"{words[0]} failed: {last_line(done.stderr)}")
    return done.stdout


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, env=clean_environment(), capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
    )


def last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("sbatch: error: ") if lines else "it said nothing"


def _executor(site: Site, run: RunDir, stage: Stage, part: Part, after: list[str]) -> _Executor:
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError(f"no sbatch on PATH, which site '{site.name}' needs; load Slurm's module, or use site=local")
    run.logs.mkdir(parents=True, exist_ok=True)
    executor = _Executor(folder=str(run.logs))
    executor.update_parameters(**parameters(site, run, stage, part, after))
    if len(part.elements) > 1:
        executor.parameters["map_count"] = len(part.elements)
    return executor
