"""Submit a batch script through submitit: the one place that knows more of it than its public interface.

Its public way submits a pickled Python function, by a script that it writes. Ours are read and submitted by people too.
"""

from pathlib import Path

import submitit

from aworld.errors import InputError
from aworld.slurm import last_line, unspoken


class _Executor(submitit.SlurmExecutor):
    """submitit's, but its command is the whole script, and sbatch gets `slurm.clean_environment`."""

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return command

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        unset = [word for name in unspoken() for word in ("--unset", name)]
        return ["env", *unset, *super()._make_submission_command(submission_file_path)]


def sbatch(text: str, logs: Path) -> str:
    """Submit a batch script; returns the id of its job, or array. The script is kept as LOGS/ID_submission.sh.

    Raises:
        InputError: Slurm refuses it, in its own words.
    """
    logs.mkdir(parents=True, exist_ok=True)
    try:
        return _Executor(folder=str(logs))._submit_command(text).job_id
    except submitit.core.utils.FailedJobError as error:
        raise InputError(last_line(str(error))) from None
