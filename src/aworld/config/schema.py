"""The schema of a run's configuration. Its larger sections have files of their own."""

import shlex
from dataclasses import dataclass
from math import ceil

from omegaconf import MISSING

from aworld.config.agent import Agent
from aworld.config.endpoint import Endpoint
from aworld.config.environment import Environment
from aworld.config.fields import LARGEST_SEED, number, setting
from aworld.config.model import Model
from aworld.config.places import short
from aworld.config.site import Site
from aworld.config.tasks import Tasks
from aworld.config.training import Training

ENDPOINT_SLOTS = 8  # of a worker that asks a model behind an endpoint, where `environment.slots` says nothing


@dataclass
class Rollout:
    """How a round is played."""

    tasks_per_round: int = number(32, at_least=1, changes="between rounds")
    # A task whose attempts all have one reward is replaced by another, up to oversample × tasks_per_round tasks in all.
    oversample: float = number(1.0, at_least=1, changes="between rounds")
    # A task whose attempts all had one reward rests for so many passes over all tasks, twice as many each further time
    # in a row, and comes back. 0: none rests.
    rest_passes: int = number(0, at_least=0)
    group_size: int = number(8, at_least=1, changes="between rounds")  # attempts per task
    lease_seconds: float = number(120.0, above=0, changes="any time")  # a claim not renewed for so long is free again
    infra_retries: int = number(2, at_least=0, changes="any time")  # per episode


@dataclass
class Evaluation:
    """How a policy is measured."""

    attempts: int = number(2, at_least=1, changes="upwards")  # per held-out task
    temperature: float | None = number(None, at_least=0)  # null: agent.temperature
    endpoint: Endpoint = setting(Endpoint)  # the model that is evaluated, instead of a policy of the run


@dataclass
class Keep:
    """Which policies or checkpoints stay. The newest one, and any that is still needed, always stay."""

    last: int | None = number(None, at_least=1)  # so many of the newest; null: all
    every: int = number(0, at_least=0)  # also those of every n-th round; 0: none


@dataclass
class KeepPolicies(Keep):
    """Which policies stay."""

    evaluated: bool = True  # also those that were evaluated, or will be


@dataclass
class Pipeline:
    """How many rounds a run has, and how its jobs follow each other."""

    rounds: int = number(5, at_least=0)
    evaluate_every: int = number(0, at_least=0)  # policies between two evaluations; 0: only the first and the last one
    # each a name and settings of its own: held-out, which is the run's own tasks, or a file of tasks, such as
    # gaia-validation tasks.path=/project/GAIA evaluation.attempts=4
    evaluations: list[str] = setting(lambda: ["held-out"])
    mode: str = ""  # batch: a job per stage and round | resident: jobs that live through all rounds | "": as suits
    max_lag: int = number(0, at_least=0)  # rollout of round r may use policy r-1-max_lag
    # whose jobs are in the queue at the same time. batch: rounds | resident: policies to be evaluated on benchmarks
    submit_ahead: int = number(8, at_least=1)
    max_restarts: int = number(2, at_least=0)  # of one job in a row, while its stage makes no progress
    max_requeues: int = number(100, at_least=0)  # of one job in all
    keep_policies: KeepPolicies = setting(KeepPolicies)
    keep_checkpoints: Keep = setting(lambda: Keep(last=3))

    @property
    def evaluated(self) -> list[int]:
        """The versions of the policies to evaluate: the first, every `evaluate_every`-th and the last one."""
        return sorted({0, *range(0, self.rounds, self.evaluate_every or self.rounds or 1), self.rounds})

    @property
    def evaluation_overrides(self) -> dict[str, list[str]]:
        """The name of each evaluation, with the settings of its own as overrides `KEY=VALUE`."""
        return {short(name): words for name, *words in map(shlex.split, self.evaluations)}


@dataclass
class Config:
    """All settings of a run."""

    name: str = setting(MISSING, changes="any time")
    runs: str = setting("runs", changes="any time")  # the folder of run directories
    seed: int = number(0, at_least=0, at_most=LARGEST_SEED)
    site: Site = setting(Site, changes="each launch")
    model: Model = setting(Model, changes="in a benchmark")
    tasks: Tasks = setting(Tasks)
    environment: Environment = setting(Environment)
    agent: Agent = setting(Agent)
    rollout: Rollout = setting(Rollout, changes="in a benchmark")
    training: Training = setting(Training, changes="in a benchmark")
    evaluation: Evaluation = setting(Evaluation)
    pipeline: Pipeline = setting(Pipeline, changes="any time")
    # where the figures are written as well: tensorboard, wandb, mlflow
    trackers: list[str] = setting(list, changes="any time")

    @property
    def slots(self) -> int:
        """Episodes that a worker plays at once."""
        if self.environment.slots:
            return self.environment.slots
        if self.evaluation.endpoint.model:
            return ENDPOINT_SLOTS
        rollout, seqs = self.rollout, self.model.shard.max_num_seqs
        share = ceil(rollout.tasks_per_round * rollout.group_size / self.site.rollout.workers)
        return min(ceil(1.5 * seqs), max(share, rollout.group_size))  # a task's attempts are played by one worker

    @property
    def trains(self) -> bool:
        """Whether the run trains at all, rather than hold a policy to be evaluated."""
        return bool(self.pipeline.rounds or self.training.cold_start.is_on)
