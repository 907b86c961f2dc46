"""The place and the name of a run, which have to suit Slurm and Apptainer; how early its jobs are told to end."""

import re
from pathlib import Path

from aworld import plugins
from aworld.config import Config, Resources, Site, Source
from aworld.errors import InputError
from aworld.rundir import RunDir
from aworld.stages import KINDS

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
MOST_SIGNAL_SECONDS = 65535  # Slurm's


def check(config: Config) -> None:
    """Check the name and the place of a run.

    Raises:
        InputError: the run's name or place would be misread.
    """
    check_name(config.name, "name")
    place = str(RunDir.of(config).root.resolve())
    slurm, images = config.site.executor == "slurm", any(vars(config.site.images).values())
    marks = ("%\\\n" if slurm else "") + (":," if images else "")  # patterns of a log's name, ends of a path
    if found := [mark for mark in marks if mark in place]:
        raise InputError(
            f"{place} holds {found[0]!r}, which {'Slurm or ' if slurm else ''}Apptainer misreads; set runs="
        )


def check_name(name: str, key: str) -> None:
    """Check the name of a folder, which is part of job names, paths of logs and options of sbatch.

    Raises:
        InputError: it does not suit one of them.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"{key}={name[:120]}: a name is at most 100 letters (a to z), digits, '.', '_' and '-', the first of them "
            "neither '.' nor '-'"
        )


def check_signal(site: Site) -> None:
    """Check that jobs are told to end some time after they began.

    Raises:
        InputError: a job would be told to end as soon as it begins.
    """
    for kind in KINDS if site.executor == "slurm" else ():
        resources: Resources = getattr(site, kind.name)
        most = min(60 * resources.minutes - 1, MOST_SIGNAL_SECONDS)
        if site.signal_seconds > most:
            raise InputError(
                f"site.signal_seconds={site.signal_seconds} does not fit site.{kind.name}.minutes={resources.minutes}, "
                f"at whose end the job is stopped; set it to {most} at most, or the minutes higher"
            )


def make_absolute(config: Config) -> None:
    """Make the paths of files that stages read absolute, so that a run can be resumed from any folder."""
    for part, keys in (
        (config.site.images, ("environment", "vllm", "megatron")),
        (config.model, ("path",)),
        *((source, _paths(source)) for source in (config.tasks, *config.tasks.mixture.values())),
        (config.environment, ("corpus", "web_cache")),
        (config.training.cold_start, ("conversations",)),
        (config.training.cold_start.teacher, ("path",)),
        (config.agent.program, ("image",)),
    ):
        for key in keys:
            if path := getattr(part, key):
                setattr(part, key, str(Path(path).absolute()))
    config.agent.player = plugins.absolute(config.agent.player)
    config.training.algorithm = plugins.absolute(config.training.algorithm)
    for source in (config.tasks, *config.tasks.mixture.values()):
        source.source, source.reward = plugins.absolute(source.source), plugins.absolute(source.reward)
    program = config.agent.program
    program.folders = [str(Path(folder).absolute()) for folder in program.folders]


def _paths(source: Source) -> list[str]:
    """The settings of a source that are paths, rather than names of packages."""
    paths = ["path", "held_out_path"]
    if source.source == "verifiers":
        paths = []
    elif source.source == "inspect":  # FILE.py@TASK, or PACKAGE/TASK
        paths = [key for key in paths if (getattr(source, key) or "").partition("@")[0].endswith(".py")]
    return [*paths, "image", "python"]
