"""What the doctor says of a node, by what is to run there."""

import os
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.doctor import node, visit

pytestmark = pytest.mark.unit


@pytest.fixture
def config() -> Config:
    return configuration.load(["recipe=demo", "site=example", "site.train.gpus_per_node=4", "site.rollout.qos=long"])


def test_a_login_node_needs_neither_gpus_nor_scratch(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no driver's nvidia-smi
    config.site.scratch = "/nowhere"
    found = {check.name: check for check in node.checks(config, tmp_path, None)}
    assert not {"GPUs", "node-local scratch", "sandbox"} & found.keys()  # its setup loads Apptainer for jobs
    assert not [check for check in found.values() if check.level == "missing"]
    config.site.sandbox = "apptainer"  # which is not there, so no attempt to escape is made
    found = {check.name: check for check in node.checks(config, tmp_path, config.site.train)}
    assert found["GPUs"].level == found["node-local scratch"].level == "missing"
    assert found["cgroups"].level == "ok" and "not used" in found["cgroups"].detail


def test_each_node_is_asked_for_its_own_stage(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs are enough for a trainer that asks for four, and too few for a rollout that asks for eight."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nfor n in 1 2 3 4; do echo GPU; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert node.gpus(config.site.train).level == "ok"
    assert "4 × GPU, 8 asked for" in node.gpus(config.site.rollout).detail


def test_srun_takes_the_sites_options_without_a_value(config: Config) -> None:
    config.site.sbatch = {"exclusive": "true", "overcommit": "false"}
    command = visit._srun(config, config.site.rollout, 900, "true")
    assert "--exclusive" in command and not [word for word in command if "overcommit" in word or "=true" in word]


def test_srun_asks_as_the_jobs_do(config: Config) -> None:
    """With the site's own lines and variables first, and its further options."""
    shell, _, lines, name, *command = visit._srun(config, config.site.rollout, 900, "--nodes=1", "true")
    assert (shell, name, command[0], command[-2:]) == ("bash", "doctor", "srun", ["--nodes=1", "true"])
    assert lines.splitlines() == [
        *("module load apptainer", "export NCCL_SOCKET_IFNAME=ib0", "export HDF5_USE_FILE_LOCKING=FALSE", 'exec "$@"')
    ]
    wanted = {"account=my-project", "partition=preempt", "constraint=h100", "gpus-per-node=8", "hint=nomultithread"}
    wanted |= {"qos=long", "time=10", "immediate=900", "cpus-per-task=48", "mem=921600M"}
    assert {f"--{option}" for option in wanted} == set(command[2:-2])
