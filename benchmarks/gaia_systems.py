"""Systems that evaluate the made-up items of gaia_items.py: ours, and rivals in environments of their own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import rivals
from gaia_items import Item

from aworld.environments.sandbox import OURS
from aworld.evaluation import benchmark
from aworld.rundir import RunDir

ROOT = Path(__file__).parents[1]
NAME = "made-up"  # of the evaluation in the run
SLOTS = 8
PREPARED = """
    recipe=demo site=local name=run tasks.train=8 tasks.held_out=2 pipeline.rounds=0 training.cold_start.tasks=0
""".split()
RIVALS = {
    "inspect_ai": ["inspect-ai>=0.3.285,<0.4", "openai>=3.4,<4", "mcp>=1.20,<2"],
    "smolagents": ["smolagents[mcp,openai]>=1.24,<2", "mcp[ws]>=1.20,<2"],
}
DRIVERS = {"inspect_ai": "inspect_items.py", "smolagents": "smolagents_items.py"}


@dataclass(frozen=True)
class System:
    """Something that evaluates.

    Attributes:
        prepare: fills a new folder for one evaluation.
        command: begins or continues the evaluation in a folder, by an endpoint's address.
        answers: those that a folder has in the end, by task.
    """

    name: str
    prepare: Callable[[Path], object]
    command: Callable[[Path, str], list[str]]
    answers: Callable[[Path], dict[str, str | None]]


def ours(folder: Path, played: Sequence[Item]) -> System:
    """This project's evaluation of a model behind an endpoint."""
    copy, base = folder / "GAIA", folder / "base"
    split = copy / "2023" / "validation"
    split.mkdir(parents=True)
    write_rows(split / "metadata.jsonl", played)
    prepare = [sys.executable, "-m", "aworld", "prepare", *PREPARED, f"runs={base}"]
    subprocess.run(prepare, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    def command(run: Path, address: str) -> list[str]:
        settings = ["tasks=gaia-validation", f"tasks.path={copy}", "agent=gaia", "site.evaluate.elements=1"]
        settings += ["environment.servers=[python]", f"environment.slots={SLOTS}", "environment.reuse=never"]
        settings += ["evaluation.attempts=1", "evaluation.endpoint.model=guest"]
        settings += [f"evaluation.endpoint.base_url={address}"]
        launch = [sys.executable, "jobs/evaluate.py", str(run), "--policy", "0", "--name", NAME]
        return [*launch, *settings]

    def answers(run: Path) -> dict[str, str | None]:
        episodes = benchmark.played(RunDir(run), NAME, 0).episodes
        return {episode.task_id: episode.answer for episode in episodes}

    return System("ours", lambda run: shutil.copytree(base / "run", run, symlinks=True), command, answers)


def rival(name: str, folder: Path) -> System:
    """Another system, in an environment of its own, with our tool server as a plain process."""
    python, rows = environment(name), folder / "GAIA" / "2023" / "validation" / "metadata.jsonl"
    variables = [f"{key}={value}" for key, value in OURS.items()]
    server = ["env", *variables, sys.executable, "-P", "-m", "aworld.tools", "python"]

    def command(place: Path, address: str) -> list[str]:
        return [str(python), str(rivals.SCRIPTS / DRIVERS[name]), str(place), address, str(SLOTS), str(rows), *server]

    def answers(place: Path) -> dict[str, str | None]:
        if (whole := place / "answers.json").exists():
            return dict(json.loads(whole.read_text()))
        lines = (place / "answers.jsonl").read_text().splitlines()
        return {row["task_id"]: row["answer"] for row in map(json.loads, lines)}

    return System(name, Path.mkdir, command, answers)


def write_rows(path: Path, played: Sequence[Item]) -> None:
    path.write_text("".join(json.dumps(item.row) + "\n" for item in played))


def environment(name: str) -> Path:
    """The Python of a rival's environment."""
    return rivals.environment(name, RIVALS[name])
