"""Which of Slurm's processes are ranks of the trainer, and which start them."""

import os
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.ports import EPHEMERAL, for_rendezvous
from aworld.training.launch import become, is_rank, rank_variables

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("tasks_of_the_site", "tasks_of_the_step", "ranks"),
    [
        (4, 4, True),
        (1, 1, True),
        (4, 2, True),  # the job was given fewer than the run's site says
        (4, 8, True),
        (4, 1, False),  # one process, as in a shell under srun, starts all ranks itself
        (4, None, False),  # no Slurm
    ],
)
def test_the_tasks_of_a_step_are_ranks(
    monkeypatch: pytest.MonkeyPatch, tasks_of_the_site: int, tasks_of_the_step: int | None, ranks: bool
) -> None:
    for name, value in (("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", str(tasks_of_the_step))):
        monkeypatch.setenv(name, value) if tasks_of_the_step else monkeypatch.delenv(name, raising=False)
    config = configuration.load(["recipe=demo", "site=local", f"site.train.tasks_per_node={tasks_of_the_site}"])
    assert is_rank(config) is ranks


def test_the_rendezvous_of_the_users_own_work_is_not_the_jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "scontrol"
    program.write_text("#!/bin/sh\necho localhost\n")
    program.chmod(0o755)
    step = {"SLURM_JOB_ID": "3", "SLURM_RESTART_COUNT": "2", "SLURM_STEP_NODELIST": "localhost", "SLURM_PROCID": "1"}
    step |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name, value in (step | {"MASTER_ADDR": "login1", "MASTER_PORT": "29500"}).items():
        monkeypatch.setenv(name, value)
    found = rank_variables()
    assert found["MASTER_ADDR"] == "localhost"
    assert int(found["MASTER_PORT"]) == for_rendezvous(3, 2, EPHEMERAL.read_text())


def test_a_program_that_is_gone_is_one_line() -> None:
    with pytest.raises(SystemExit, match=r"/no/such/python cannot be run on node .*: No such file or directory"):
        become(["/no/such/python", "-m", "aworld.training.rank"])
