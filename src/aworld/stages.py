"""The stages of a run: what their kinds have in common, and the name, arguments, outputs and lock of each."""

from dataclasses import dataclass, replace
from pathlib import Path

from aworld.config import Config, Resources, Site
from aworld.rundir import HELD_OUT, RunDir


@dataclass(frozen=True)
class Kind:
    """The properties that all stages of one kind share.

    Attributes:
        name: the command of `aworld`, and the key of the stage's resources in a site.
        outputs: folders that a stage of one round fills, as patterns in the run directory; empty: all that a run fills.
        option: of the command line, for the stage's number: `--round` or `--policy`.
        has_workers: its tasks are workers that find their work themselves; the loss of one leaves the others alone.
        has_ranks: its tasks are ranks of one program; when one is lost, the others would wait for it, and are ended.
        is_mpi: srun starts the ranks as one MPI world.
        after_any: it starts once the stages before it have ended, also where they failed.
    """

    name: str
    outputs: tuple[str, ...] = ()
    option: str = "--round"
    has_workers: bool = False
    has_ranks: bool = False
    is_mpi: bool = False
    after_any: bool = False


ROLLOUT = Kind("rollout", ("rounds/{number:04d}",), has_workers=True)
# Other workers may have played the share of a worker that failed: gathering finds out.
GATHER = Kind("gather", ("rounds/{number:04d}",), has_ranks=True, is_mpi=True, after_any=True)
# Training may have to make earlier rounds again: the checkpoints of all rounds count.
TRAIN = Kind("train", ("policies/{number:04d}", "checkpoints/round-*"), has_ranks=True)
EVALUATE = Kind("evaluate", ("evals/{benchmark}/{number:04d}",), "--policy", has_workers=True)
REPORT = Kind("report", after_any=True)
# In a resident run: it ends once a policy is published, and the evaluations of that policy depend on it.
AWAIT = Kind("await", option="--policy")
# In a batch run: a round has ended, and the jobs of a later round are submitted.
SUBMIT = Kind("submit")
KINDS = (ROLLOUT, GATHER, TRAIN, EVALUATE)  # those that a site has resources for


@dataclass(frozen=True)
class Stage:
    """A stage of a run, which one `aworld` command does.

    Attributes:
        number: of the round, or the version of the policy it evaluates; None: it lives through all rounds.
        benchmark: that it evaluates on; empty: the run's own tasks.
        task: the index of one Slurm task of the stage, a worker or a rank; None: the whole stage.
        after: names of the stages that come before it.
        max_restarts: `pipeline.max_restarts`.
    """

    kind: Kind
    run: RunDir
    resources: Resources
    number: int | None = None
    benchmark: str = ""
    task: int | None = None
    after: tuple[str, ...] = ()
    max_restarts: int = 2

    @classmethod
    def of(cls, kind: Kind, config: Config, run: RunDir, number: int | None = None, benchmark: str = "") -> "Stage":
        """The stage with the resources that the site has for its kind. A cold start without a vLLM holds no GPU."""
        resources = _resources(kind, config.site)
        if kind == ROLLOUT and number == 0 and not config.training.cold_start.needs_shard:
            resources = replace(resources, gpus_per_node=0)
        return cls(kind, run, resources, number, benchmark, max_restarts=config.pipeline.max_restarts)

    @property
    def name(self) -> str:
        """Unique in the run, such as rollout-0003; of one task rollout-0003-1."""
        return stage_name(self.kind, self.number, self.benchmark) + ("" if self.task is None else f"-{self.task}")

    @property
    def job_name(self) -> str:
        return f"{self.run.root.name}.{self.name}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of `aworld`: the same for every task of the job, but for `--worker`."""
        numbered = () if self.number is None else (self.kind.option, str(self.number))
        benchmark = ("--tasks", self.benchmark) if self.benchmark else ()
        worker = ("--worker", str(self.task)) if self.kind.has_workers and self.task is not None else ()
        return (self.kind.name, str(self.run.root), *numbered, *benchmark, *worker)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Folders whose growth counts as its progress, as patterns in the run directory; empty: whatever the run fills.

        A single-round stage watches its own round only: other rounds may advance while it is stuck.
        """
        if self.number is None:
            return ()
        return tuple(
            output.format(number=self.number, benchmark=self.benchmark or HELD_OUT) for output in self.kind.outputs
        )

    @property
    def lock(self) -> Path:
        """Held by the process that does the work; all training of a run shares one."""
        return self.run.lock(TRAIN.name if self.kind == TRAIN else self.name)

    def task_of(self, number: int) -> "Stage":
        """One of its tasks."""
        return replace(self, task=number)


def stage_name(kind: Kind, number: int | None = None, benchmark: str = "") -> str:
    """The name of a stage, as in the file names of its starts, logs and locks."""
    return "-".join([kind.name, *([benchmark] if benchmark else []), *([] if number is None else [f"{number:04d}"])])


def _resources(kind: Kind, site: Site) -> Resources:
    if kind in KINDS:
        return getattr(site, kind.name)
    # The others run where gathering does, which needs no GPU either.
    like = site.gather
    resources = Resources(partition=like.partition, qos=like.qos, constraint=like.constraint)
    if not like.mem_gb:
        resources.mem_gb = 0
    if kind == AWAIT:  # it waits as long as training takes, through its time limits
        resources.minutes = site.train.minutes
    return resources
