"""`aworld doctor`: check a site, and suggest mends."""

import argparse
from pathlib import Path

from rich.console import Console

from aworld import config as configuration
from aworld.commands import Commands, add, of_a_site
from aworld.config import places


def add_to(commands: Commands) -> None:
    """Add the command to those of `aworld`."""
    doctor = add(
        commands, "doctor", _doctor, "check this site, on the login node and on compute nodes, and suggest fixes"
    )
    doctor.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as site=example (default: recipe=demo)")
    places.add_option(doctor)
    doctor.add_argument("--login-only", action="store_true", help="submit nothing")
    doctor.add_argument("--node", metavar="FOLDER", type=Path, help="only this node for STAGE, as lines of JSON")


def _doctor(arguments: argparse.Namespace) -> int:
    from aworld.doctor.visit import report_node, visit

    if arguments.node:
        report_node(arguments.node, arguments.overrides[0], configuration.read(arguments.node / "run.yaml"))
        return 0
    return visit(of_a_site(arguments), Console(), on_compute=not arguments.login_only)
