"""Checks of a configuration before anything is made. A dry run makes the same checks as a start."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from aworld import plugins, tasks
from aworld.agents import roles
from aworld.config import AgentProgram, Config, Endpoint, Source, Tasks, bounds
from aworld.endpoints import check_address
from aworld.environments import settings
from aworld.errors import InputError
from aworld.launch import cold_start
from aworld.models import support
from aworld.planning import fit
from aworld.publish import is_complete
from aworld.rundir import HELD_OUT, RunDir
from aworld.tasks import jsonl
from aworld.tasks.task import TaskSet
from aworld.training import algorithms, schedule


def check_playing(config: Config, copies: Path | None = None) -> None:
    """Check the settings of every episode, of training and of an evaluation.

    Args:
        copies: of the files that the tasks name; None: the run's.

    Raises:
        InputError: a value is outside its limits, the tasks do not use a setting, the agents do not fit together, an
            endpoint has no address, or an episode's tokens do not fit the model.
    """
    bounds.check(config)
    tasks.check(config.tasks, copies or RunDir.of(config).own)
    roles.check(config.agent)
    if config.agent.player:
        from aworld.rollout.players import own_player  # importing transformers takes a second

        own_player(config, RunDir.of(config).own)
    if config.agent.program != AgentProgram():
        from aworld.launch import programs  # importing mcp takes half a second

        programs.check(config)
    if config.environment.mcp:
        from aworld.environments import outside  # importing jsonschema takes a tenth of a second

        for name, server in config.environment.mcp.items():
            outside.check(name, server)
    endpoints = {"evaluation.endpoint": config.evaluation.endpoint, "tasks.judge": config.tasks.judge}
    endpoints |= {f"agent.members.{name}.endpoint": member.endpoint for name, member in config.agent.members.items()}
    endpoints |= {f"tasks.mixture.{name}.judge": part.judge for name, part in config.tasks.mixture.items()}
    for where, endpoint in endpoints.items():
        _check_endpoint(where, endpoint)


def check_evaluation(config: Config, copies: Path | None = None) -> None:
    """Check the settings of an evaluation, but for its tasks.

    Args:
        copies: as `check_playing`.

    Raises:
        InputError: it cannot be played.
    """
    check_playing(config, copies)
    endpoint = config.evaluation.endpoint
    _check_length(config, endpoint.context if endpoint.model else config.model.shard.max_model_len)


def check_training(config: Config) -> None:
    """Check the settings of a run that trains.

    Raises:
        InputError: its episodes could not be trained on, its algorithm or its options are not there, its settings were
            made for another model, its optimizer's state cannot be moved, or nothing would be learned.
    """
    training, agent = config.training, config.agent
    roles.check_for_training(agent)
    if agent.top_p != 1 or agent.top_k != -1 or not agent.temperature:
        raise InputError(
            f"agent.temperature={agent.temperature:g}, agent.top_p={agent.top_p:g}, agent.top_k={agent.top_k}: tokens "
            "cut from the distribution have no ratio to train on; set agent.temperature=1 agent.top_p=1 agent.top_k=-1"
        )
    cold_start.check(config)
    algorithm = algorithms.make(training, RunDir.of(config).own)
    schedule.check(training, config.pipeline.rounds)
    if config.pipeline.rounds and config.rollout.group_size < 2 and algorithm.compares_attempts:
        raise InputError(
            f"rollout.group_size={config.rollout.group_size}: {training.algorithm} compares the attempts at a task "
            "and learns nothing from one; set it to 2 or more"
        )
    start = training.options.get("overlong_from")
    if start is not None and start >= agent.max_tokens:
        raise InputError(
            f"training.options.overlong_from={start}, but an episode samples at most agent.max_tokens="
            f"{agent.max_tokens} tokens; lower it"
        )
    if config.rollout.oversample > 1 and not algorithm.compares_attempts:
        raise InputError(
            f"rollout.oversample={config.rollout.oversample:g} plays other tasks in the place of those whose attempts "
            f"have one reward, but {training.algorithm} compares no attempts; set it to 1"
        )
    if config.rollout.rest_passes and not algorithm.compares_attempts:
        raise InputError(
            f"rollout.rest_passes={config.rollout.rest_passes} leaves out tasks whose attempts have one reward, but "
            f"{training.algorithm} compares no attempts; set it to 0"
        )
    if training.made_for not in ("", config.model.name):
        raise InputError(
            f"the recipe's training settings (training.lr={training.lr:g}, …) were made for model={training.made_for}, "
            f"not {config.model.name}; choose another recipe=NAME, or insist with training.made_for={config.model.name}"
        )
    if config.model.offload_optimizer and config.model.dtype != "bfloat16":
        raise InputError(
            f"model.offload_optimizer=true needs model.dtype=bfloat16: in {config.model.dtype} the optimizer works on "
            "the weights themselves, which cannot leave the GPU; set one of them"
        )


def check_layout(config: Config) -> None:
    """Check that the processes of each stage divide as the model's layout says.

    Raises:
        InputError: more GPUs are wanted than a node has, or the trainer's ranks do not share the model.
    """
    site, layout = config.site, config.model.parallel
    for stage in (site.rollout, site.evaluate):
        wanted = stage.tasks_per_node * config.model.shard.tensor_parallel_size
        if stage.gpus_per_node and wanted > stage.gpus_per_node:
            raise InputError(
                f"{stage.tasks_per_node} vLLM shards of {config.model.shard.tensor_parallel_size} GPUs do not fit on a "
                f"node of {stage.gpus_per_node}; change site.rollout.tasks_per_node or model.shard.tensor_parallel_size"
            )
    if site.train.gpus_per_node and site.train.tasks_per_node > site.train.gpus_per_node:
        raise InputError(
            f"site.train has {site.train.tasks_per_node} tasks_per_node on {site.train.gpus_per_node} GPUs, but each "
            "rank needs one of its own; change one of them"
        )
    ranks = layout.tensor_model_parallel_size * layout.pipeline_model_parallel_size * layout.context_parallel_size
    if site.train.tasks % ranks:
        raise InputError(
            f"site.train has {site.train.tasks} tasks (nodes × tasks_per_node), no multiple of model.parallel's "
            f"{ranks} (tensor × pipeline × context); change one of them"
        )


def check_model(config: Config) -> None:
    """Check the model, and that an episode fits it.

    Raises:
        InputError: the model cannot be served or trained so, it does not fit the site's GPUs, or an episode's tokens
            do not fit it.
    """
    model, base = config.model, RunDir.of(config).base
    if model.path is not None and not Path(model.path).is_dir() and is_complete(base):
        model = replace(model, path=str(base))  # a relative path, seen from another folder: the run has links to it
    support.check(model, config.trains)
    if config.trains:  # else the folder may hold another architecture than the configuration's
        fit.check(config)
    _check_length(config, config.model.shard.max_model_len)


def check_tasks(config: Config, source: TaskSet) -> None:
    """Check the tasks of a run.

    Raises:
        InputError: there is nothing to train on, no task to play in the place of others, no expert to start from, an
            id cannot be stored, or search has no corpus.
    """
    train = list(source.tasks("train")) if config.trains else []
    if config.tasks.mixture:  # each part has compared its own
        jsonl.check_unseen({"train": train, "held_out": list(source.tasks("held_out"))})
    cold = config.training.cold_start
    if (config.pipeline.rounds or cold.tasks) and not train:
        insists = "; or say tasks.purpose=train: then they measure nothing any more, and only another split is reported"
        raise InputError(
            f"tasks.source={config.tasks.source} has no training tasks; train on others, such as tasks=reasoning-gym, "
            "and evaluate on these: aworld launch evaluate RUN --policy N tasks=NAME"
            f"{insists if 'purpose' in tasks.uses(config.tasks) else ''}"
        )
    shown = train[: cold.shown]
    if cold.has_expert and not cold_start.is_gathered(config) and any("plan" not in task.metadata for task in shown):
        raise InputError(
            f"training.cold_start.tasks={cold.tasks}, but the tasks of tasks.source={config.tasks.source} bring no "
            "plan for an expert; name a teacher that plays them, training.cold_start.teacher.model=… and .base_url=…, "
            "or set training.cold_start.tasks=0"
        )
    unseen, rollout = train[cold.shown :] or train, config.rollout
    if config.pipeline.rounds and rollout.oversample > 1 and len(unseen) <= rollout.tasks_per_round:
        raise InputError(
            f"rollout.oversample={rollout.oversample:g}: there are only {len(unseen)} tasks to train on, none to play "
            f"in the place of others; lower rollout.tasks_per_round={rollout.tasks_per_round} or set it to 1"
        )
    if config.pipeline.rounds and rollout.rest_passes and len(unseen) <= rollout.tasks_per_round:
        raise InputError(
            f"rollout.rest_passes={rollout.rest_passes}: there are only {len(unseen)} tasks to train on, so none can "
            f"rest; lower rollout.tasks_per_round={rollout.tasks_per_round} or set it to 0"
        )
    tasks.check_ids(train)
    settings.check_images(config.environment, train)
    if config.trains and HELD_OUT not in config.pipeline.evaluation_overrides:
        settings.check(config.environment, source.corpus)
    else:
        check_held_out(config, source)


def check_unseen(trained: Tasks, evaluated: Tasks) -> None:
    """Check that a run does not train on the tasks of a benchmark.

    Args:
        trained: the tasks of the run.
        evaluated: those of the benchmark.

    Raises:
        InputError: it does, and a figure on them would measure nothing.
    """
    for one in (trained, *trained.mixture.values()):
        for other in (evaluated, *evaluated.mixture.values()):
            if one.source == other.source == "jsonl" and _trains_on(one, other):
                raise InputError(
                    f"{other.held_out_path or other.path}: the run trains on these rows, so a figure on them measures "
                    "nothing; evaluate on others"
                )
            if one.purpose == "train" and (one.source, one.split) == (other.source, other.split):
                raise InputError(
                    f"the run trains on split {one.split} of tasks.source={one.source} (tasks.purpose=train), so a "
                    f"figure on it measures nothing; evaluate on another, such as tasks={one.source}-test"
                )


def _trains_on(trained: Source, evaluated: Source) -> bool:
    """Whether rows to evaluate on are in a file of rows that is trained on."""
    if not trained.path:
        return False
    if evaluated.held_out_path:
        return evaluated.held_out_path == trained.path
    parted = [(one.held_out_path, one.held_out, one.seed) for one in (trained, evaluated)]  # decides which are held out
    return trained.path == evaluated.path and parted[0] != parted[1]


def check_held_out(config: Config, source: TaskSet) -> None:
    """Check the tasks to evaluate on.

    Raises:
        InputError: there is none, an id of one cannot be stored, or search has no corpus.
    """
    held_out = list(source.tasks("held_out"))
    if not held_out:
        raise InputError(
            f"tasks.source={config.tasks.source} has no tasks to evaluate on; name others, such as "
            "'pipeline.evaluations=[gaia-test tasks.path=FOLDER]', or none: pipeline.evaluations=[]"
        )
    tasks.check_ids(held_out)
    settings.check_images(config.environment, held_out)
    settings.check(config.environment, source.corpus)


def check_chat(config: Config) -> None:
    """Check that the model's chat template suits the agent.

    Raises:
        InputError: it does not.
    """
    if config.model.path is None:
        if not config.agent.enable_thinking:
            raise InputError("agent.enable_thinking=false: the model that is made here does not think; leave it out")
    elif (Path(config.model.path) / "config.json").is_file():  # else it is no checkpoint, and `prepare` says so
        from aworld.agents.chat import ChatFormat  # importing transformers takes a second

        ChatFormat(Path(config.model.path), config.agent.answer_form, config.agent.enable_thinking)


@contextmanager
def opened(config: Config, path: Path) -> Iterator[TaskSet]:
    """The tasks in `path`. Where there are none yet, they are made in a temporary folder."""
    with TemporaryDirectory() as temporary:
        place = path if is_complete(path) else Path(temporary) / "tasks"
        yield tasks.make_source(config.tasks, place, path.with_name(plugins.FOLDER))


def _check_endpoint(where: str, endpoint: Endpoint) -> None:
    if endpoint.model:
        check_address(endpoint)
    elif endpoint.base_url:
        raise InputError(f"{where}.base_url={endpoint.base_url}, but no model is named; set {where}.model")


def _check_length(config: Config, longest: int) -> None:
    """`longest`: tokens that a context can hold; 0: not known. Several agents have contexts of their own."""
    agent = config.agent
    if longest and agent.context == "append" and not agent.members and agent.max_tokens >= longest:
        raise InputError(
            f"agent.max_tokens={agent.max_tokens} does not fit beside a prompt in the {longest} tokens that the model "
            "can hold (model.shard.max_model_len, or an endpoint's context); lower it"
        )
