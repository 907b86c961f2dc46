#!/usr/bin/env python
"""Run the whole loop: cold start, rounds of rollout, gather and training, evaluation before and after, the report.

    python jobs/pipeline.py recipe=demo site=local            # about 12 minutes on 2 CPU cores
    python jobs/pipeline.py recipe=demo site=local seed=1 name=demo-1
    python jobs/pipeline.py recipe=demo site=local --dry-run  # print the configuration and what would be launched

Run it again to go on after any interruption.
"""

import sys

from rich.console import Console

from aworld.cli import guarded
from aworld.config import load
from aworld.launch.pipeline import dry_run, pipeline
from aworld.launch.summary import summary


def main() -> None:
    words = [word for word in sys.argv[1:] if word not in ("--dry-run", "-h", "--help")]
    if len(words) < len(sys.argv) - 1 and "--dry-run" not in sys.argv:
        print(__doc__)
        return
    config = load(words)
    console = Console()
    if "--dry-run" in sys.argv:
        dry_run(config, console)
    else:
        summary(pipeline(config, console), console)


if __name__ == "__main__":
    sys.exit(guarded(main))
