"""Checks of the user's agent program, on the login node."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from aworld import config as schema
from aworld.config import Config
from aworld.containers import no_apptainer
from aworld.environments.sandbox import PROBE_SECONDS, ApptainerSandbox, Contents, Sandbox, choose, probe
from aworld.errors import InputError
from aworld.rundir import RunDir

FINDS = "import shutil, sys; sys.exit(not shutil.which(sys.argv[1]))"


def check(config: Config) -> None:
    """Check `agent.program`, and that its command is there: in the sandbox, where one works on this node.

    Raises:
        InputError: the command, the image or a folder is not there, or a setting does not go with a program.
    """
    agent, program = config.agent, config.agent.program
    if not program.command:
        raise InputError("agent.program has no command; set agent.program.command=[PROGRAM, ARGUMENT, …]")
    if agent.members or agent.context != "append":
        named = "members" if agent.members else f"context={agent.context}"
        raise InputError(f"agent.{named} is of our own agents, which do not play beside agent.program; leave it out")
    if config.evaluation.endpoint.model:
        raise InputError(
            "evaluation.endpoint.model is to be evaluated, but the gateway leads agent.program to a policy of ours "
            "alone; leave one of them out"
        )
    for folder in program.folders:
        if not Path(folder).exists():
            raise InputError(f"agent.program.folders: {folder} is not there (looked in {Path.cwd()})")
        _check_keeps_answers(Path(folder).absolute(), config)
    if program.image:
        if no_apptainer() and config.site.setup:  # the nodes may load a module of it
            return
        _check_image(program.image)
    seen = tuple(Path(folder).absolute() for folder in program.folders)
    _check_command(config.site.sandbox, config.site.images.environment, program.image, program.command[0], seen)


def _check_keeps_answers(folder: Path, config: Config) -> None:
    """Check that the sandbox does not see the answers of the tasks in this folder."""
    sources = (config.tasks, *config.tasks.mixture.values())
    paths = [Path(path).absolute() for source in sources for path in (source.path, source.held_out_path) if path]
    for path in (RunDir.of(config).root.absolute(), *paths):
        if folder == path or folder in path.parents or path in folder.parents:
            raise InputError(
                f"agent.program.folders: {folder}: the policy could read the answers of the tasks in {path}; give the "
                "folders of the program alone"
            )


def _check_image(image: str) -> None:
    if reason := no_apptainer():
        raise InputError(f"agent.program.image is to be run: {reason}")
    if not Path(image).is_file():
        raise InputError(f"agent.program.image={image} is not there (looked in {Path.cwd()}); give its full path")


@cache  # each benchmark of a run asks the same; what raises is asked again
def _check_command(kind: str, environment: str, image: str, command: str, seen: tuple[Path, ...]) -> None:
    """Check that the sandbox finds the command.

    Args:
        kind, environment: `site.sandbox`, and the image of the tools.
        image: of the program; empty: the sandbox of the tools.
        seen: what the program sees.

    Raises:
        InputError: it does not.
    """
    try:
        sandbox: Sandbox = ApptainerSandbox(str(Path(image).absolute())) if image else choose(kind, environment)
    except InputError:
        return  # its own check says so; the nodes may have what is missing here
    with tempfile.TemporaryDirectory() as scratch:
        contents = Contents(Path(scratch), schema.Environment(), seen)
        launch = sandbox.launch([sandbox.python, "-I", "-S", "-c", FINDS, command], contents)
        try:
            done = probe(launch)
        except subprocess.TimeoutExpired:
            raise InputError(f"agent.program: {sandbox.name} did not start within {PROBE_SECONDS} s") from None
    if done.returncode == 1 and not done.stderr.strip():
        place = "the image" if image else f"the sandbox ({sandbox.name})"
        raise InputError(
            f"agent.program.command: {command} is not in {place}; give its full path, and the folders that "
            "it needs, its own Python's too, in agent.program.folders"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise InputError(f"agent.program cannot be run by {sandbox.name}: {last}")
