"""The tasks, and the judge of their answers."""

from dataclasses import dataclass

from omegaconf import MISSING

from aworld.config.endpoint import Endpoint
from aworld.config.fields import LARGEST_SEED, choice, number, setting


@dataclass
class Tasks:
    """The tasks. `configs/tasks/`. Each source uses some of these settings."""

    source: str = MISSING
    seed: int = number(0, at_least=0, at_most=LARGEST_SEED)  # of a generator
    train: int = number(512, at_least=0)  # tasks per split that a generator makes
    held_out: int = number(200, at_least=0)
    path: str | None = setting(None, changes="in a benchmark")  # of a benchmark's local copy
    split: str = "validation"  # of a benchmark
    # of a benchmark's tasks. evaluate: they measure | train: the policy learns them, and they measure nothing any more
    purpose: str = choice("evaluate", "evaluate", "train")
    datasets: list[str] = setting(list)  # of reasoning-gym
    judge: Endpoint = setting(Endpoint)  # decides about answers
    score_seconds: float = number(900.0, above=0)  # limit of scoring one answer, a judge's tries included
