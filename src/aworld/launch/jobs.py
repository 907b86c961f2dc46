"""The Slurm jobs of a run: submit, note, release and cancel them."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aworld.config import Site
from aworld.errors import InputError
from aworld.launch.arrays import arrays
from aworld.launch.sbatch import sbatch
from aworld.launch.script import script
from aworld.locks import hold
from aworld.publish import append_json, publish_json, read_jsonl
from aworld.rundir import RunDir
from aworld.slurm import ask, squeue
from aworld.stages import Stage
from aworld.watch.queue import Queued, Submission, queue, settled, submissions


@contextmanager
def submitting(run: RunDir, poll: float) -> Iterator[None]:
    """Only one launcher of this node at a time submits jobs of the run; another waits, and looks each `poll` s."""
    with hold(run.lock("submit"), poll):
        _adopt(run)
        yield


def submit(site: Site, stage: Stage, after: list[str], elements: list[int] | None = None) -> list[Submission]:
    """Submit a stage, in as many arrays as the site's limit demands, and note each in `jobs.jsonl`.

    Args:
        after: ids of the jobs that come first.
        elements: of the stage's array; None: all.

    Raises:
        InputError: Slurm refuses it, in its own words.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError(f"no sbatch on PATH, which site '{site.name}' needs; load Slurm's module, or use site=local")
    run, submitted = stage.run, []
    for array in arrays(site, stage, elements):
        note: dict[str, Any] = {
            "run": str(run.root.absolute()),
            "stage": stage.name,
            "elements": array.elements,
            "name": stage.job_name,
            "after": after,
            "words": stage.arguments,
        }
        note["time"] = time.time()
        publish_json(_note(run), note)  # if this process ends before the job is noted, the next launcher finds it
        try:
            job = sbatch(script(site, stage, array, after), run.logs)
        except InputError as reason:
            raise InputError(f"Slurm refuses {stage.name}: {reason}; mend site '{site.name}'") from None
        submission = Submission(stage.name, job, array.elements, stage.job_name)
        append_json(run.jobs, note | asdict(submission))
        submitted.append(submission)
    return submitted


def _note(run: RunDir) -> Path:
    """The file that describes the submission under way, or the last one."""
    return run.root / "submitting.json"


def _adopt(run: RunDir) -> None:
    """Note the job whose launcher was killed between sbatch and noting it, if it is still in the queue."""
    note = json.loads(_note(run).read_text()) if _note(run).exists() else None
    if note is None or any(row["time"] == note["time"] for row in read_jsonl(run.jobs)):
        return
    known = {submission.job for submission in submissions(run)}
    # the name alone is not enough: another run directory may have the same one
    for job, program, name in squeue("%F|%o|%j", f"--user={os.getuid()}"):
        if job not in known and name == note["name"] and _belongs(program, run):
            append_json(run.jobs, note | {"job": job})
            known.add(job)


def _belongs(program: str, run: RunDir) -> bool:
    return Path(program).resolve().is_relative_to(run.logs.resolve())


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


def cancel(run: RunDir, poll: float) -> list[str]:
    """Cancel what waits or runs, and wait until it has ended; returns the job ids. `poll`: as for `submitting`."""
    with submitting(run, poll):
        jobs = sorted({each.submission.job for each in queue(run)})
        if jobs:
            ask("scancel", *jobs)
            settled(run)
    return jobs
