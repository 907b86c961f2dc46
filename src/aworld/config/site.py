"""Where jobs run, and the resources that they ask for. `configs/site/` has a file per machine or cluster."""

from dataclasses import dataclass

from omegaconf import MISSING

from aworld.config.fields import choice, number, setting


@dataclass
class Resources:
    """The resources of one stage's jobs."""

    partition: str = ""  # "": the site's default, likewise for qos and constraint
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
        """Processes of all elements."""
        return self.elements * self.tasks


@dataclass
class Images:
    """SIF files, made by `aworld containers build`; "" runs that part in this very Python."""

    environment: str = ""  # the tool servers
    vllm: str = ""
    megatron: str = ""  # training, and the MPI program that gathers


@dataclass
class Site:
    """One machine or cluster. What only a launcher reads has `changes="each launch"`."""

    name: str = MISSING
    executor: str = choice("local", "local", "slurm")
    account: str = ""
    gres: str = ""  # "" asks for GPUs by --gpus-per-node=N, gpu:h100 by --gres=gpu:h100:N
    # further options of sbatch, as written: {reservation: training}; true: it has no value; false: it is left out
    sbatch: dict[str, str] = setting(dict)
    mpi: str = "pmi2"  # srun --mpi=…: pmi2 for MPICH and Intel MPI, pmix for Open MPI
    array_limit: int = number(1000, at_least=1)  # most elements of one array: the site's MaxArraySize - 1
    array_parallel: int = number(0, at_least=0)  # most elements of an array that run at once; 0: all
    signal_seconds: int = number(120, at_least=0)  # seconds before the time limit at which a job is told to save
    setup: list[str] = setting(list)  # shell lines before every stage, such as: module load apptainer
    environment: dict[str, str] = setting(dict)  # variables of every stage, as written
    images: Images = setting(Images, changes="any time")
    binds: list[str] = setting(list, changes="any time")  # paths that containers of vLLM and Megatron see: /a or /a:/b
    # true: the images bring a system only; this Python and its packages are bound into them
    bind_python: bool = setting(False, changes="any time")
    # node-local folder, to which images and policies are copied once per node; "": TMPDIR, and no images
    scratch: str = setting("", changes="any time")
    # the GPUs of its nodes, a file of configs/hardware/ or the path of your own; "": none, and memory is not checked
    hardware: str = ""
    hardware_figures: dict[str, float] = number(dict, above=0)  # figures of this site in their place, by name
    sandbox: str = choice("auto", "auto", "apptainer", "bubblewrap", "subprocess", changes="any time")
    rollout: Resources = setting(lambda: Resources(elements=2))
    gather: Resources = setting(lambda: Resources(tasks_per_node=2))
    train: Resources = setting(lambda: Resources(tasks_per_node=2))
    evaluate: Resources = setting(lambda: Resources(elements=2))
    # longest wait for a policy or for trajectories without any progress
    wait_seconds: float = number(3600.0, above=0, changes="any time")
    # between two looks for a file that a stage waits for, such as a policy or a round's trajectories
    poll_seconds: float = number(2.0, above=0, at_most=60, changes="any time")
    queue_seconds: float = number(60.0, above=0)  # between two questions to Slurm
    jobs_may_submit: bool = True  # whether sbatch works on compute nodes: then a round that ends submits a later one
