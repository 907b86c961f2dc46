"""`aworld prune`: remove what nothing needs."""

import argparse
from pathlib import Path

from aworld.commands import Commands, of_run
from aworld.rundir import open_run


def add_to(commands: Commands) -> None:
    """Add the command to those of `aworld`."""
    prune = of_run(
        commands, "prune", _prune, "remove policies, checkpoints and copies that nothing needs: pipeline.keep_…"
    )
    prune.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")


def _prune(arguments: argparse.Namespace) -> None:
    from aworld.training import retention

    config, run = open_run(Path(arguments.run_dir))
    found = [*retention.policies(config, run), *retention.checkpoints(config, run), *retention.copies(run)]
    for each in found:
        if each.why:
            print(f"stays  {each.folder.relative_to(run.root)}  ({each.why})")
    goes = list(retention.sizes([each for each in found if not each.why]))
    for each, size in goes:
        print(f"goes   {each.folder.relative_to(run.root)}  {size:,} bytes")
    if not arguments.dry_run:
        retention.prune_policies(config, run)
        retention.prune_checkpoints(config, run)
        retention.prune_copies(run)
    what = "would be removed" if arguments.dry_run else "removed"
    print(f"{len(goes)} {what}, {sum(size for _, size in goes):,} bytes")
