"""The batch scripts of `sbatch/`, which `python -m aworld.launch.plain` writes, and `aworld sbatch` for another site.

Each is what the launchers submit on that site, but for any run: the variables RUN and ROUND, or POLICY, say which.
"""

import shutil
from pathlib import Path

from aworld import config as configuration
from aworld.config import Config
from aworld.launch.arrays import arrays
from aworld.launch.options import sbatch_options, srun_options
from aworld.launch.script import render, worker_option
from aworld.publish import publish_text
from aworld.rundir import RunDir
from aworld.shipped import shipped
from aworld.stages import EVALUATE, GATHER, KINDS, ROLLOUT, TRAIN, Kind, Stage

FOLDER = shipped("sbatch")
PYTHON = ".venv/bin/python"  # of a clone
WORDS = ("recipe=demo", "site=example")
ABOUT = {
    ROLLOUT: """One round's rollout: an array of workers, each task with a vLLM shard of its own and sandboxed tools.

  sbatch --export=ALL,RUN=runs/demo,ROUND=1 sbatch/rollout.sbatch

Workers claim tasks from the run directory, so elements may die, be requeued or be added.""",
    GATHER: """Gather a round's journals into one HDF5 file: every task is a rank of the MPI program.

  sbatch --export=ALL,RUN=runs/demo,ROUND=1 sbatch/gather.sbatch""",
    TRAIN: """Train on one round: every task is a rank of Megatron; for Qwen3-32B TP 8 in a node and PP 4 over nodes.

  sbatch --export=ALL,RUN=runs/demo,ROUND=1 sbatch/train.sbatch

Told to end early it saves a checkpoint.""",
    EVALUATE: """Evaluate one policy on the held-out tasks, or on a benchmark: an array of workers like a rollout's.

  sbatch --export=ALL,RUN=runs/demo,POLICY=0 sbatch/evaluate.sbatch

  python jobs/evaluate.py runs/demo --policy 0 tasks=gaia-validation tasks.path=/data/GAIA --begin-only
  sbatch --export=ALL,RUN=runs/demo,POLICY=0,TASKS=gaia-validation sbatch/evaluate.sbatch""",
}


def write(folder: Path, config: Config, python: str) -> None:
    """Fill a folder with the batch scripts of a site, and with `pipeline.sh`, which submits a run by them.

    Args:
        python: the program that they run where the variable PYTHON is not set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        publish_text(folder / f"{kind.name}.sbatch", plain(kind, config, python))
    shutil.copy(FOLDER / "pipeline.sh", folder)


def plain(kind: Kind, config: Config, python: str = PYTHON) -> str:
    """The text of the batch script of a kind of stage, for any run."""
    stage = Stage.of(kind, config, RunDir(Path("run")), 1)  # not the cold start, which may need less
    (array,) = arrays(config.site, stage)
    output = "%x-%A_%a.out" if len(array.elements) > 1 else "%x-%j.out"
    memory = f"{stage.resources.mem_gb:g}G"
    options = sbatch_options(config.site, stage, array, []) | {"job-name": kind.name, "output": output, "mem": memory}
    number = "POLICY" if kind == EVALUATE else "ROUND"
    benchmark = ' ${TASKS:+--tasks "$TASKS"}' if kind == EVALUATE else ""
    command = f'"${{PYTHON:-{python}}}" -u -m aworld {kind.name} "$RUN" {kind.option} "${{{number}:?}}"'
    step = f"srun {srun_options(config.site, stage)} \\\n    {command}{benchmark}{worker_option(stage, array.elements)}"
    about = ABOUT[kind].splitlines()
    return render(options, step, config.site, stage.max_restarts, about=about)


if __name__ == "__main__":
    for each in KINDS:
        publish_text(FOLDER / f"{each.name}.sbatch", plain(each, configuration.load(list(WORDS))))
