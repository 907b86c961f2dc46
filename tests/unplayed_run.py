"""A run that nobody plays: a directory with its configuration, and processes that hold its locks."""

import subprocess
import sys
import textwrap
from pathlib import Path

from hf_folder import hf_folder

from aworld import config as configuration
from aworld.publish import publish_text
from aworld.rundir import RunDir

WORDS = ["recipe=demo", "site=local", "tasks.train=4", "tasks.held_out=2", "training.cold_start.tasks=2"]
HOLDER = """
    import sys, time
    from pathlib import Path
    from aworld.locks import sole_holder
    with sole_holder(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def unplayed_run(folder: Path) -> RunDir:
    """The model in `folder` is never loaded."""
    model = hf_folder(folder / "model", configuration.load(WORDS).model.architecture)
    config = configuration.load([*WORDS, f"runs={folder}", "name=run", f"model.path={model}"])
    run = RunDir.of(config)
    publish_text(run.config, configuration.to_yaml(config))
    return run


def hold(run: RunDir, name: str, seconds: float = 60) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", textwrap.dedent(HOLDER), str(run.lock(name)), str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def aworld(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "aworld", *words], capture_output=True, text=True, check=False)
