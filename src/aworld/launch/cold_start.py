"""Checks of the cold start: who plays it, and whether a teacher is there."""

import asyncio
import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path

from omegaconf import MISSING

from aworld.config import Architecture, ColdStart, Config, Teacher
from aworld.endpoints import check_address
from aworld.errors import InputError
from aworld.models.hf import CONFIG
from aworld.models.positions import positions
from aworld.planning.fit import shard_refusal
from aworld.planning.hardware import load
from aworld.rundir import RunDir

GREETING_SECONDS = 30.0  # for a word of a teacher behind an endpoint
HERE = "training.cold_start"


def check(config: Config) -> None:
    """Check the settings of the cold start.

    Raises:
        InputError: two settings exclude each other, an expert cannot play so, or a teacher cannot be asked or served.
    """
    cold, agent = config.training.cold_start, config.agent
    _check_who(cold)
    if agent.player and cold.has_teacher:
        teacher = (
            f"{HERE}.teacher.{'model' if cold.teacher.model else 'path'}={cold.teacher.model or cold.teacher.path}"
        )
        raise InputError(
            f"agent.player={agent.player} and {teacher}: a teacher plays by our agents or agent.program, by no "
            "player of yours; leave one of them out"
        )
    if cold.has_expert:
        if agent.program.command or agent.members:
            which = "plays no agent.program" if agent.program.command else "plays alone, without agent.members"
            raise InputError(
                f"{HERE}.tasks={cold.tasks}: the tasks' expert {which}; name a teacher, {HERE}.teacher.model=… and "
                f".base_url=…, or set {HERE}.tasks=0 and start from a model that knows these prompts and tools, such "
                "as model.path=RUN/policies/0000 of a run whose agents have the same"
            )
        if cold.attempts > 1:
            raise InputError(f"{HERE}.attempts={cold.attempts}: an expert plays each task in one way; set it to 1")
    if cold.teacher.model:
        check_address(cold.teacher)
    elif cold.teacher.base_url:
        raise InputError(
            f"{HERE}.teacher.base_url={cold.teacher.base_url}, but no model is named; set {HERE}.teacher.model"
        )
    if cold.teacher.path and not is_gathered(config):  # else nobody needs it any more
        _check_folder(config, cold.teacher)


def greet(config: Config) -> None:
    """Ask the teacher for a word, unless all is played. Warns on stderr where it does not answer from here.

    Raises:
        InputError: its key is missing, or it refuses whatever it is asked.
    """
    teacher, site = config.training.cold_start.teacher, config.site
    if not teacher.model or is_gathered(config):
        return
    is_elsewhere = bool(site.setup) or teacher.key_variable in site.environment
    if teacher.key_variable and teacher.key_variable not in os.environ and is_elsewhere:  # the jobs have the key
        return
    from aworld.agents.endpoint import EndpointModel  # importing transformers takes a second

    soon = replace(teacher, seconds=min(teacher.seconds, GREETING_SECONDS))
    if not asyncio.run(EndpointModel(soon, config.agent, is_policy=False).is_there()):
        print(
            f"warning: the teacher {teacher.model} at {teacher.base_url} does not answer from this machine; the nodes "
            "of site.rollout have to reach it",
            file=sys.stderr,
        )


def is_gathered(config: Config) -> bool:
    """Whether the episodes or conversations of the cold start are there to be trained on."""
    return RunDir.of(config).trajectories(0).exists()


def _check_who(cold: ColdStart) -> None:
    named = {
        f"{HERE}.teacher.model": cold.teacher.model,
        f"{HERE}.teacher.path": cold.teacher.path,
        f"{HERE}.player": cold.player if cold.player != "expert" else "",
        f"{HERE}.conversations": cold.conversations,
    }
    given = [f"{name}={value}" for name, value in named.items() if value]
    if len(given) > 1:
        raise InputError(f"{given[0]} and {given[1]}: a cold start has one of them; leave the other out")
    if cold.conversations and cold.tasks:
        raise InputError(f"{given[0]} takes the place of tasks; set {HERE}.tasks=0")
    if given and not cold.conversations and not cold.tasks:
        raise InputError(f"{given[0]}, but {HERE}.tasks=0: there is nothing to play; set how many tasks it plays")


def served(config: Config) -> Config | None:
    """The configuration with the model that plays the cold start on our shards.

    None where no shard plays it, or the teacher is no dense model, whose memory and seconds a plan could count.
    """
    cold, model = config.training.cold_start, config.model
    if not cold.tasks or not cold.needs_shard:
        return None
    if not cold.teacher.path:
        return config
    values = json.loads((Path(cold.teacher.path) / CONFIG).read_text())
    known = {field.name: values[field.name] for field in fields(Architecture) if field.name in values}
    is_dense = not any("experts" in name for name in values)
    if not is_dense or any(field.default == MISSING and field.name not in known for field in fields(Architecture)):
        return None
    return replace(config, model=replace(model, architecture=Architecture(**known)))


def _check_folder(config: Config, teacher: Teacher) -> None:
    """Check that our own shards can serve the teacher, and that its turns can be read."""
    from aworld.agents.chat import ChatFormat  # importing transformers takes a second

    folder, shard = Path(teacher.path), config.model.shard
    if not (folder / CONFIG).is_file():
        raise InputError(f"{HERE}.teacher.path={folder} is no HF folder: it holds no {CONFIG}; give its full path")
    try:
        values = json.loads((folder / CONFIG).read_text())
    except ValueError as reason:
        raise InputError(f"{HERE}.teacher.path: {folder / CONFIG} is no JSON ({reason}); fetch it again") from None
    longest, heads = positions(values), values.get("num_attention_heads", 0)
    if longest is not None and shard.max_model_len > longest:
        raise InputError(
            f"{HERE}.teacher.path: model.shard.max_model_len={shard.max_model_len} is beyond the {longest} positions "
            f"of {folder / CONFIG}; lower it, or take another teacher"
        )
    if heads % shard.tensor_parallel_size:
        raise InputError(
            f"{HERE}.teacher.path: model.shard.tensor_parallel_size={shard.tensor_parallel_size} does not divide the "
            f"{heads} attention heads of {folder / CONFIG}; change it, or serve the teacher yourself as an endpoint"
        )
    hardware, counted = load(config.site), served(config)
    if hardware and counted and (refused := shard_refusal(counted, hardware)):
        raise InputError(f"{HERE}.teacher.path={folder}: {refused}; or serve the teacher yourself as an endpoint")
    try:
        ChatFormat(folder, config.agent.answer_form)
    except InputError as reason:
        raise InputError(
            f"{HERE}.teacher.path: {reason}; or serve it yourself, and name it by {HERE}.teacher.model and .base_url"
        ) from None
