"""Start the ranks of the trainer on this node; under srun or torchrun the ranks are there already."""

import subprocess
import sys

from aworld.config import Config
from aworld.processes import die_with_parent
from aworld.rundir import RunDir


def launch(config: Config, run: RunDir, round_: int | None) -> int:
    """Run `python -m aworld.training` in `site.train_processes` ranks and return the exit code."""
    ranks = str(config.site.train_processes)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks]
    words = [str(run.root), *(["--round", str(round_)] if round_ is not None else [])]
    command = [*torchrun, "-m", "aworld.training", *words]
    return subprocess.run(command, preexec_fn=die_with_parent, check=False).returncode
