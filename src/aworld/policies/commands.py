"""`aworld policy export`: the HF folder of any version."""

import argparse
from pathlib import Path

from aworld.errors import InputError
from aworld.policies.reading import copy_policy
from aworld.publish import is_complete, publish_folder
from aworld.rundir import RunDir, open_run


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of `aworld`."""
    policy = commands.add_parser("policy", help="the policies of a run").add_subparsers(
        required=True, metavar="COMMAND"
    )
    export = policy.add_parser("export", help="write a policy as an HF folder, whether or not it is stored as deltas")
    export.add_argument("run_dir", metavar="RUN", help="the run directory, such as runs/demo")
    export.add_argument("version", metavar="VERSION", type=int, help="0 for the first")
    export.add_argument("folder", metavar="FOLDER", type=Path, help="where it goes; not there yet")
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> None:
    _, run = open_run(Path(arguments.run_dir))
    check_there(run, arguments.version)
    if arguments.folder.exists():
        raise InputError(f"{arguments.folder} is there already; name a new folder")
    publish_folder(arguments.folder, lambda folder: copy_policy(run, arguments.version, folder))
    print(arguments.folder)


def check_there(run: RunDir, version: int) -> None:
    """
    Raises:
        InputError: the run has no such policy.
    """
    if not is_complete(run.policy(version)):
        there = ", ".join(str(version) for version in run.policies()) or "none"
        raise InputError(f"{run.root} has no policy {version} yet; there are: {there}")
