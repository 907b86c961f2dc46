"""`aworld …`: the stages as commands, and what a person asks of a run.

Exit codes: 0 done, 2 bad input, 3 the work came out wrong, 4 the machine failed, 75 told to end early, 130 interrupted;
of status and watch: 0 the run is finished, 10 it is under way, 11 it stopped with work left.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version

from aworld.commands import Commands, add
from aworld.errors import guarded, speak_utf8
from aworld.launch.lifetime import note_end
from aworld.launch.stage_commands import add_to as add_stages
from aworld.stages import AWAIT, KINDS, SUBMIT

STAGES = {kind.name for kind in (*KINDS, AWAIT, SUBMIT)}  # hundreds of processes start one at the same time
FIRST = """aworld trains a tool-using agent in rounds, and keeps all of a run in its directory, such as runs/demo.

  start a run:    aworld pipeline recipe=demo site=local
  look at it:     aworld status runs/demo
  go on with it:  aworld resume runs/demo

On a cluster begin with: aworld doctor site=mine, and aworld plan recipe=grpo site=mine. All commands: aworld --help"""
FOLDERS = ("RUN", "FOLDER", "FOLDER|FILE")  # arguments that a shell completes as paths


def main(argv: list[str] | None = None) -> int:
    """Run one command; a failure that has a mend is one line on stderr. Without a command, say how one begins."""
    speak_utf8()  # before the help is printed
    words = sys.argv[1:] if argv is None else argv
    is_stage = bool(STAGES.intersection(words[:1]))
    if not is_stage:
        from aworld.launch.launchers import LAUNCH, PIPELINE, launch

        if words[:1] in ([PIPELINE], [LAUNCH]):
            return launch(words)  # overrides may stand between its options, which argparse's subcommands do not take
    arguments = parser(is_stage).parse_args(words)
    code = guarded(lambda: arguments.run(arguments))
    note_end(code)
    if argv is None:
        gc.freeze()  # the process ends: a last look for garbage in all that was imported would take up to half a second
    return code


def parser(is_stage: bool = False) -> argparse.ArgumentParser:
    """The parser of the whole command line. The rooms add their commands, those of a person before the stages.

    Args:
        is_stage: whether it is for a stage, which needs no other room.
    """
    whole = argparse.ArgumentParser(prog="aworld", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    whole.add_argument("--version", action="version", version=f"aworld {version('aworld-slurm')}")
    whole.set_defaults(run=lambda _: print(FIRST))
    commands = whole.add_subparsers(metavar="COMMAND")
    for add_to in (*([] if is_stage else _rooms()), add_stages):
        add_to(commands)
    _add_completion(commands)
    return whole


def _rooms() -> list[Callable[[Commands], None]]:
    """What adds the commands of a person, those that set up a site last."""
    from aworld.doctor.commands import add_to as add_doctor
    from aworld.doctor.task_check import add_to as add_tasks
    from aworld.environments.commands import add_to as add_corpus
    from aworld.evaluation.commands import add_to as add_evaluations
    from aworld.export.commands import add_to as add_exports
    from aworld.launch.commands import add_to as add_launching
    from aworld.launch.launchers import add_to as add_launchers
    from aworld.policies.commands import add_to as add_policies
    from aworld.tasks.commands import add_to as add_prefetch
    from aworld.trackers.commands import add_to as add_tracking
    from aworld.training.commands import add_to as add_pruning
    from aworld.watch.commands import add_to as add_looks

    found = [add_launchers, add_launching, add_looks, add_evaluations, add_exports, add_policies, add_pruning]
    return [*found, add_tracking, add_doctor, add_tasks, add_prefetch, add_corpus]


def _add_completion(commands: Commands) -> None:
    text = "print a script that makes your shell complete these commands"
    completion = add(commands, "completion", _completion, text)
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])


def _completion(arguments: argparse.Namespace) -> None:
    import shtab

    whole = parser()
    for action in _actions(whole):
        if action.metavar in FOLDERS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab looks for it there
    print(shtab.complete(whole, arguments.shell))


def _actions(of: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its commands."""
    for action in of._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
