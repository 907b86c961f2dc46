"""A stage as a process of this machine, and its logs."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from aworld import config as configuration
from aworld.errors import InputError
from aworld.publish import append_json, publish_text
from aworld.rundir import RunDir
from aworld.watch.logs import print_logs

pytestmark = pytest.mark.unit
LAUNCHER = """
import sys, time
from pathlib import Path
from aworld.errors import guarded
from aworld.launch.executor import submit
from aworld.rundir import RunDir
from aworld.config import Resources
from aworld.stages import Kind, Stage

def main():
    job = submit(Stage(Kind("watch"), RunDir(Path(sys.argv[1])), Resources()))
    try:
        print(job.submitted.job_id, flush=True)
        time.sleep(300)
    finally:
        job.end()

sys.exit(guarded(main))
"""
HOLDER = """
import sys, time
from pathlib import Path
from aworld.locks import sole_holder
with sole_holder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


def test_an_interrupt_is_one_line_and_ends_all(tmp_path: Path) -> None:
    """Ctrl-C, which a terminal sends to the launcher and to all that it started."""
    config = configuration.load(["recipe=demo", "tasks.train=4", "tasks.held_out=2", "name=run", f"runs={tmp_path}"])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config))
    words = [sys.executable, "-c", HOLDER, str(run.lock("train"))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:  # so that there is something to watch
        assert holder.stdout and holder.stdout.readline() == "held\n"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        launcher = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-c", LAUNCHER, str(run.root)],
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
            **pipes,
        )
        controller = psutil.Process(int(launcher.stdout.readline()))
        while not (stage := [p for p in controller.children(recursive=True) if "watch" in p.cmdline()]):
            time.sleep(0.1)
        time.sleep(1)
        os.killpg(launcher.pid, signal.SIGINT)
        _, said = launcher.communicate(timeout=60)
        holder.kill()
    assert (launcher.returncode, said) == (130, "interrupted; the same command goes on from here\n")
    assert not [p for p in (controller, *stage) if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_logs_are_found_by_the_stage_or_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDir(tmp_path)
    run.logs.mkdir()
    for job, stage in enumerate(("rollout-0", "rollout-1", "train")):
        append_json(run.jobs, {"stage": stage, "job": str(job)})
        (run.logs / f"{job}_0_log.out").write_text(f"said by {stage}\n")
    for asked, said in (("rollout", ["rollout-0", "rollout-1"]), ("rollout-1", ["rollout-1"]), ("train", ["train"])):
        print_logs(run, asked, 20)
        assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("said")] == [
            f"said by {stage}" for stage in said
        ]
    with pytest.raises(InputError, match=r"no log of .roll. in .*; there are: rollout-0, rollout-1, train"):
        print_logs(run, "roll", 20)
