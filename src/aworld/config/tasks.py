"""The tasks, and what decides about their answers."""

from dataclasses import dataclass

from omegaconf import MISSING

from aworld.config.endpoint import Endpoint
from aworld.config.fields import LARGEST_SEED, choice, number, setting


@dataclass
class Source:
    """A source of tasks. Each uses some of these settings."""

    source: str = MISSING  # its name, an entry point of aworld.tasks, or /path/file.py:NAME
    seed: int = number(0, at_least=0, at_most=LARGEST_SEED)  # of a generator, or of a split
    train: int = number(512, at_least=0)  # tasks per split that a generator makes
    held_out: int | float = number(200, at_least=0)  # of rows in a file also a share, such as 0.1
    path: str | None = setting(None, changes="in a benchmark")  # of a benchmark's local copy, or of rows
    held_out_path: str | None = setting(None, changes="in a benchmark")  # of rows; null: some of those in path
    image: str = setting("", changes="in a benchmark")  # of task folders: a path, with {task} for the folder's name
    python: str = setting("", changes="in a benchmark")  # that has the package of the tasks, where it is another one
    split: str = "validation"  # of a benchmark
    # of a benchmark's tasks. evaluate: they measure | train: the policy learns them, and they measure nothing any more
    purpose: str = choice("evaluate", "evaluate", "train")
    datasets: list[str] = setting(list)  # of reasoning-gym
    reward: str = ""  # exact, gaia, numeric, contains, judge, math or /path/file.py:NAME; "": the source's own
    judge: Endpoint = setting(Endpoint)  # decides about answers
    score_seconds: float = number(900.0, above=0)  # limit of scoring one answer, a judge's tries included


@dataclass
class Part(Source):
    """A source in a mixture."""

    weight: float = number(1.0, above=0)  # its share of each round's tasks, relative to the other parts


@dataclass
class Tasks(Source):
    """The tasks. `configs/tasks/`."""

    mixture: dict[str, Part] = setting(dict)  # the parts of tasks.source=mixture, by a name for each
