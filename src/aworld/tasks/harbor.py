"""Folders of tasks in the format of Harbor and Terminal-Bench 2: instruction.md, task.toml, tests/, solution/.

Each brings the container that its agent works in, as an Apptainer image, and a script that tests the agent's work. The
format: harborframework.com/docs/tasks. Instructions, settings and tests are copied into the run; images stay where they
are.
"""

import json
import re
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from aworld import config as schema
from aworld.errors import InputError
from aworld.publish import publish_folder
from aworld.tasks import jsonl
from aworld.tasks.rows import BadRows
from aworld.tasks.task import Container, Given, Played, Task, Verification

USES = ("path", "held_out_path", "seed", "held_out", "image")  # of the settings below `tasks`
SETTINGS, INSTRUCTION, TEST, SOLUTION = "task.toml", "instruction.md", "tests/test.sh", "solution/solve.sh"
LEVELS = {"easy": 1, "medium": 2, "hard": 3}
CANARY = re.compile(r"\A(?:[ \t]*(?:<!--.*canary.*-->|#.*canary.*)?[ \t]*\n)+", re.IGNORECASE)
TEST_SECONDS = 600.0  # where task.toml says nothing, as in Harbor


class Bad(ValueError):  # noqa: N818
    """Why a folder is no task that can be played here, and the mend."""


class TaskFolders:
    """A TaskSource copied into `folder` (once; later uses read it). The test of a task decides, not the answer."""

    corpus: Path | None = None

    def __init__(self, config: schema.Source, folder: Path):
        self._folder, self._most = folder.absolute(), config.score_seconds
        publish_folder(folder, lambda where: _copy(config, where))

    def tasks(self, split: str) -> Iterable[Task]:
        rows = (self._folder / f"{split}.jsonl").read_text("utf-8").splitlines()
        return [self._task(json.loads(row)) for row in rows]

    def reward(self, episode: Played, task: Task, folder: Path | None) -> Given:
        """The test, on what the episode left; an episode needs no answer."""
        assert task.container and folder
        return Verification(task.container, folder)

    def _task(self, row: dict[str, Any]) -> Task:
        said = row.pop("container")
        paths = {"image": Path(said["image"]), "tests": self._folder / "tests" / row["task_id"]}
        paths["solution"] = said["solution"] and Path(said["solution"])
        container = Container(**said | paths | {"test_seconds": min(said["test_seconds"], self._most)})
        return Task(**row, answer=None, source="harbor", container=container)


def source(config: schema.Source, folder: Path) -> TaskFolders:
    return TaskFolders(config, folder)


def read(config: schema.Source) -> dict[str, list[Task]]:
    """The tasks of both splits.

    Raises:
        InputError: there is no folder, one is no task, or a task is in both.
    """
    if not config.path and not config.held_out_path:
        raise InputError("tasks.path=null: name a folder of task folders, each with task.toml and instruction.md")
    found: dict[str, list[Task]] = {"train": [], "held_out": []}
    if config.held_out_path:
        found["held_out"] = _tasks(Path(config.held_out_path), config)
    if config.path:
        found["train"] = _tasks(Path(config.path), config)
        if not config.held_out_path:
            found = jsonl.parted(found["train"], config)
    jsonl.check_unseen(found)
    return found


def _copy(config: schema.Source, folder: Path) -> None:
    states: dict[str, list[list[int]]] = {}
    for split, tasks in read(config).items():
        rows = []
        for task in tasks:
            assert task.container
            tests = task.container.tests
            shutil.copytree(tests, folder / "tests" / task.task_id, symlinks=True, dirs_exist_ok=True)
            states |= {str(path): jsonl.state(path) for path in (tests, *_said(tests.parent))}
            shown = {name: getattr(task, name) for name in ("task_id", "question", "level", "metadata", "seconds")}
            rows.append(json.dumps(shown | {"container": vars(task.container)}, default=str) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(rows), "utf-8")
    (folder / jsonl.FILES).write_text(json.dumps(states))


def _said(folder: Path) -> tuple[Path, Path]:
    return folder / SETTINGS, folder / INSTRUCTION


def _tasks(root: Path, config: schema.Source) -> list[Task]:
    """The tasks of a folder of them, or of one task's folder."""
    if not root.is_dir():
        raise InputError(f"{root} is not there (looked in {Path.cwd()}); name a folder of task folders")
    folders = sorted(path.parent.absolute() for path in [*root.glob(SETTINGS), *root.glob(f"*/{SETTINGS}")])
    if not folders:
        raise InputError(f"{root} holds no task; a task is a folder with {SETTINGS} and {INSTRUCTION}")
    tasks, bad = [], []
    for folder in folders:
        try:
            tasks.append(_task(folder, config))
        except (Bad, OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            bad.append(f"{folder}: {error}")
        except (AttributeError, TypeError) as error:
            bad.append(f"{folder}: {SETTINGS} has a value of another kind than Harbor's ({error}); mend it")
    if bad:
        raise BadRows(bad)
    return tasks


def _task(folder: Path, config: schema.Source) -> Task:
    settings, instruction = (path.read_text("utf-8") for path in _said(folder))
    said = tomllib.loads(settings)
    environment, verifier, agent = (said.get(name, {}) for name in ("environment", "verifier", "agent"))
    for fault in _faults(folder, said):
        raise Bad(fault)
    question = CANARY.sub("", instruction).strip()
    if not question:
        raise Bad(f"{INSTRUCTION} is empty; write the task into it")
    metadata = said.get("metadata", {})
    container = Container(
        image=_image(folder, environment, config.image),
        workdir=environment.get("workdir") or _workdir(folder / "environment" / "Dockerfile"),
        tests=folder / "tests",
        env=_variables("environment", environment),
        test_env=_variables("verifier", verifier),
        test_seconds=_seconds("verifier", verifier) or TEST_SECONDS,
        solution=folder / "solution" if (folder / SOLUTION).is_file() else None,
    )
    return Task(
        task_id=folder.name,
        question=question,
        answer=None,
        level=LEVELS.get(str(metadata.get("difficulty", "")).lower(), 1),
        source="harbor",
        metadata=json.loads(json.dumps(metadata, default=str)),
        container=container,
        seconds=_seconds("agent", agent),
    )


def _faults(folder: Path, said: dict[str, Any]) -> Iterator[str]:
    verifier = said.get("verifier", {})
    if said.get("steps"):
        yield "it has several steps, which are not played here; leave the task out"
    if list((folder / "environment").glob("docker-compose.y*ml")):
        yield "its environment is several containers (docker-compose), which are not played here; leave the task out"
    if verifier.get("environment") or verifier.get("environment_mode") == "separate":
        yield "its test wants a container of its own ([verifier] environment), which there is not here; leave it out"
    if not (folder / TEST).is_file():
        yield f"there is no {TEST}; write it, to give the reward to /logs/verifier/reward.txt"


def _image(folder: Path, environment: dict[str, Any], pattern: str) -> Path:
    """The image: that of the pattern, the .sif that task.toml names, or the one beside the task."""
    named = str(environment.get("docker_image") or "")
    if pattern:
        choices = [Path(pattern.replace("{task}", folder.name)).absolute()]
    elif named.endswith(".sif"):
        choices = [folder / named]
    else:
        choices = [folder / "environment.sif", folder.with_name(f"{folder.name}.sif")]
    for path in choices:
        if path.exists():
            return path
    from_ = f"docker://{named}" if named else "the image of environment/Dockerfile"
    raise Bad(
        f"there is no image at {' or '.join(map(str, choices))}; build it: apptainer build {choices[0]} {from_}; "
        "or name another by tasks.image"
    )


def _workdir(dockerfile: Path) -> str:
    """The working folder that a Dockerfile ends with; / where it names none, or there is no such file."""
    found = PurePosixPath("/")
    for line in dockerfile.read_text("utf-8", "replace").splitlines() if dockerfile.is_file() else ():
        words = line.split(maxsplit=1)
        if len(words) == 2 and words[0].upper() == "FROM":
            found = PurePosixPath("/")
        elif len(words) == 2 and words[0].upper() == "WORKDIR":
            found /= words[1].strip().strip("\"'")
    if "$" in str(found):
        raise Bad(f"WORKDIR {found} of its Dockerfile has a variable; write [environment] workdir into {SETTINGS}")
    return str(found)


def _variables(part: str, said: dict[str, Any]) -> dict[str, str]:
    found = {str(name): str(value) for name, value in said.get("env", {}).items()}
    if foreign := [name for name, value in found.items() if "${" in value]:
        raise Bad(
            f"[{part}] env.{foreign[0]} wants a variable of the host, of which none is passed on; write its value, or "
            "leave the task out"
        )
    return found


def _seconds(part: str, said: dict[str, Any]) -> float | None:
    seconds = said.get("timeout_sec")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise Bad(f"[{part}] timeout_sec is {seconds!r}; write a number of seconds above 0")
    return float(seconds)
