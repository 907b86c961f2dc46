"""Checks of the user's agent program, on the login node."""

import subprocess
import tempfile
from pathlib import Path

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
        sandbox: Sandbox = ApptainerSandbox(str(Path(program.image).absolute()))
    else:
        try:
            sandbox = choose(config.site.sandbox, config.site.images.environment)
        except InputError:
            return  # its own check says so; the nodes may have what is missing here
    _check_command(sandbox, config)


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


def _check_command(sandbox: Sandbox, config: Config) -> None:
    program = config.agent.program
    with tempfile.TemporaryDirectory() as scratch:
        contents = Contents(Path(scratch), config.environment, [Path(folder).absolute() for folder in program.folders])
        launch = sandbox.launch([sandbox.python, "-I", "-S", "-c", FINDS, program.command[0]], contents)
        try:
            done = probe(launch)
        except subprocess.TimeoutExpired:
            raise InputError(f"agent.program: {sandbox.name} did not start within {PROBE_SECONDS} s") from None
    if done.returncode == 1 and not done.stderr.strip():
        seen = "the image" if program.image else f"the sandbox ({sandbox.name})"
        raise InputError(
            f"agent.program.command: {program.command[0]} is not in {seen}; give its full path, and the folders that "
            "it needs, its own Python's too, in agent.program.folders"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise InputError(f"agent.program cannot be run by {sandbox.name}: {last}")
