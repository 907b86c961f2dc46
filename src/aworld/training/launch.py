"""Start the ranks of the trainer on this node, as torchrun does; under srun or torchrun the ranks are there already."""

import os
import sys
import uuid

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from aworld.config import Config
from aworld.rundir import RunDir


def launch(config: Config, run: RunDir, round_: int | None) -> int:
    """Run `python -m aworld.training` in the site's ranks; returns the exit code of the first failure."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the ranks share the cores
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=config.site.train.tasks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    words = [str(run.root), *(["--round", str(round_)] if round_ is not None else [])]
    try:
        elastic_launch(settings, sys.executable)("-u", "-m", "aworld.training", *words)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode
    return 0
