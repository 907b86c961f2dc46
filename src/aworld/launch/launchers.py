"""`aworld pipeline`, `aworld launch` and `aworld sbatch`: the launchers, also where there is no clone with `jobs/`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aworld.commands import Commands, add, of_a_site
from aworld.config import places
from aworld.stages import KINDS

PIPELINE, LAUNCH = "pipeline", "launch"
HELP = {
    PIPELINE: "run the whole loop, or submit it: cold start, rounds, evaluations, report",
    LAUNCH: "launch one stage of an existing run: rollout, gather, train or evaluate",
}


def add_to(commands: Commands) -> None:
    """Add these commands to the subparsers of a command line. `launch` reads the arguments of two of them."""
    for name, text in HELP.items():
        commands.add_parser(name, help=text, add_help=False)
    text = "write plain batch scripts of the stages, for any run on a site"
    sbatch = add(commands, "sbatch", _sbatch, text)
    sbatch.add_argument("folder", metavar="FOLDER", type=Path)
    sbatch.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="such as site=mine (default: recipe=demo)")
    places.add_option(sbatch)


def launch(words: Sequence[str]) -> int:
    """Do what `aworld pipeline …` or `aworld launch STAGE …` says; returns the exit code."""
    from aworld.launch.single import launch_stage
    from aworld.launch.start import launch_run

    if words[0] == PIPELINE:
        return launch_run(f"{HELP[PIPELINE]}\nRun it again to go on.", words[1:], f"aworld {PIPELINE}")
    kinds = {kind.name: kind for kind in KINDS}
    parser = argparse.ArgumentParser(f"aworld {LAUNCH}", description=HELP[LAUNCH])
    parser.add_argument("stage", choices=kinds, help=f"then RUN and options: aworld {LAUNCH} STAGE --help")
    stage = parser.parse_args(words[1:2]).stage
    text = f"Launch the stage {stage} of an existing run. On a local site, wait for it."
    return launch_stage(kinds[stage], text, words[2:], f"aworld {LAUNCH} {stage}")


def _sbatch(arguments: argparse.Namespace) -> None:
    from aworld.launch.plain import write

    write(arguments.folder, of_a_site(arguments), sys.executable)
    print(f"{arguments.folder}: submit a prepared run with {arguments.folder / 'pipeline.sh'} RUN ROUNDS")
