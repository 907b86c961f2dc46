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
            print(f"{name}: {', '.join(str(path) for path in paths)}")
        return
    names = [name for name in found if name == stage or name.startswith(f"{stage}-")]
    if not names:
        raise InputError(f"no log of '{stage}' in {run.logs}; there are: {', '.join(found) or 'none'}")
    for path in (path for name in names for path in found[name]):
        print(f"==> {path} <==")
        print("\n".join(map(printable, path.read_text(errors="replace").splitlines()[-lines:])))


def _by_stage(run: RunDir) -> dict[str, list[Path]]:
    """Logs are called JOB_TASK_log.out or JOB_ELEMENT_TASK_log.out; submitit's local executor writes .err as well."""
    found: dict[str, list[Path]] = {}
    for row in read_jsonl(run.jobs):
        paths = [path for path in run.logs.glob(f"{row['job']}_*_log.*") if path.stat().st_size]
        if paths:
            found.setdefault(row["stage"], []).extend(sorted(paths))
    for path in sorted(run.logs.glob("vllm-*.log")):
        found[path.stem] = [path]
    return found
