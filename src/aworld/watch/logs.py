"""The logs of a run's jobs, by stage instead of by job id."""

from pathlib import Path

from aworld.errors import InputError, printable
from aworld.publish import read_jsonl
from aworld.rundir import RunDir


def print_logs(run: RunDir, stage: str | None, lines: int) -> None:
    """Print the end of each log of a stage and its parts (`rollout`: rollout-0, …); without one, list what there is.

    Raises:
        InputError: there is no such stage, or it has not begun.
    """
    found = _by_stage(run)
    if stage is None:
        for name, paths in found.items():
            if some := _written(paths):
                print(f"{name}: {', '.join(str(path) for path in some)}")
        return
    names = [name for name in found if name == stage or name.startswith(f"{stage}-")]
    written = [path for name in names for path in _written(found[name])]
    if not written:
        raise InputError(f"no log of '{stage}' in {run.logs}; there are: {', '.join(found) or 'none'}")
    for path in written:
        print(f"==> {path} <==")
        print("\n".join(map(printable, path.read_text(errors="replace").splitlines()[-lines:])))


def _by_stage(run: RunDir) -> dict[str, list[Path]]:
    """Logs are called JOB_TASK_log.out or JOB_ELEMENT_TASK_log.out; submitit's local executor writes .err as well.

    Lists the folder of logs once.
    """
    of_job: dict[str, list[Path]] = {}
    for path in sorted(run.logs.glob("*_log.*")):
        of_job.setdefault(path.name.partition("_")[0], []).append(path)
    found: dict[str, list[Path]] = {}
    for row in read_jsonl(run.jobs):
        if paths := of_job.get(str(row["job"])):
            found.setdefault(row["stage"], []).extend(paths)
    for path in sorted(run.logs.glob("vllm-*.log")):
        found[path.stem] = [path]
    return found


def _written(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.stat().st_size]
