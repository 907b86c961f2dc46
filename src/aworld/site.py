"""The schema of a site: where jobs run and what they ask for. One file per machine or cluster in `configs/site/`."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from aworld.bounds import choice, number


@dataclass
class Resources:
    """What a job of one stage asks for."""

    partition: str = ""  # "": the site's default; so for qos and constraint
    qos: str = ""
    constraint: str = ""
    elements: int = number(1, at_least=1)  # of the job array (rollout, evaluate); each may die, return or be added
    nodes: int = number(1, at_least=1)  # per element
    # rollout: workers with a vLLM shard each; gather: MPI ranks; train: Megatron ranks
    tasks_per_node: int = number(1, at_least=1)
    cpus_per_task: int = number(1, at_least=1)
    gpus_per_node: int = number(0, at_least=0)
    mem_gb: float = number(4.0, at_least=0)  # per node; 0: none is asked for, as where site.sbatch has mem-per-cpu
    minutes: int = number(60, at_least=1)  # time limit

    @property
    def tasks(self) -> int:
        """Processes of one element."""
        return self.nodes * self.tasks_per_node

    @property
    def workers(self) -> int:
        return self.elements * self.tasks


@dataclass
class Images:
    """SIF files; "" runs that part in this very Python. Made by `aworld containers build`."""

    environment: str = ""  # the tool servers
    vllm: str = ""
    megatron: str = ""  # training, and the MPI program that gathers


@dataclass
class Site:
    name: str = MISSING
    executor: str = choice("local", "local", "slurm")
    account: str = ""
    gres: str = ""  # how GPUs are asked for: "" is --gpus-per-node=N, gpu:h100 is --gres=gpu:h100:N
    # further options of sbatch, as written: {reservation: training}; true: it has no value; false: it is left out
    sbatch: dict[str, str] = field(default_factory=dict)
    mpi: str = "pmi2"  # srun --mpi=…: pmi2 for MPICH and Intel MPI, pmix for Open MPI
    array_limit: int = number(1000, at_least=1)  # most elements of one array: the site's MaxArraySize - 1
    array_parallel: int = number(0, at_least=0)  # most elements of an array that run at once; 0: all
    signal_seconds: int = number(120, at_least=0)  # how long before the time limit a job is told to save
    setup: list[str] = field(default_factory=list)  # shell lines before every stage, such as: module load apptainer
    environment: dict[str, str] = field(default_factory=dict)  # variables of every stage, as written
    images: Images = field(default_factory=Images)
    binds: list[str] = field(default_factory=list)  # paths that containers of vLLM and Megatron see: /a or /a:/b
    bind_python: bool = False  # the images bring a system only; this Python and its packages are bound into them
    scratch: str = ""  # node-local folder, which images are copied to once per node; "": TMPDIR, and no copies
    sandbox: str = choice("auto", "auto", "apptainer", "bubblewrap", "subprocess")
    rollout: Resources = field(default_factory=lambda: Resources(elements=2))
    gather: Resources = field(default_factory=lambda: Resources(tasks_per_node=2))
    train: Resources = field(default_factory=lambda: Resources(tasks_per_node=2))
    evaluate: Resources = field(default_factory=lambda: Resources(elements=2))
    wait_seconds: float = number(3600.0, above=0)  # longest wait for a policy or for trajectories without any progress
    poll_seconds: float = number(60.0, above=0)  # between two questions to Slurm
