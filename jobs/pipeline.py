#!/usr/bin/env python
"""Run the whole loop: cold start, rounds of rollout, gather and training, evaluations, the report.

    python jobs/pipeline.py recipe=demo site=local            # about 15 minutes on 2 CPU cores
    python jobs/pipeline.py recipe=demo site=local seed=1 name=demo-1
    python jobs/pipeline.py recipe=demo site=local --dry-run  # say what would be launched, and launch nothing
    python jobs/pipeline.py recipe=demo site=test-cluster     # submit it all to Slurm and return

Run it again to go on after any interruption.
"""

import argparse
import sys

from rich.console import Console

from aworld.config import load
from aworld.errors import guarded
from aworld.launch.start import dry_run, start
from aworld.processes import end_by_interrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="recipe=NAME, site=NAME, or any key of the schema"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be launched and launch nothing")
    arguments = parser.parse_intermixed_args()
    config = load(arguments.overrides)
    console = Console()
    if arguments.dry_run:
        dry_run(config, console)
        return
    end_by_interrupt()
    start(config, console)


if __name__ == "__main__":
    sys.exit(guarded(main))
