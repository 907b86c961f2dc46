#!/usr/bin/env python
"""Run the whole loop: cold start, rounds of rollout, gather and training, evaluations, the report.

    python jobs/pipeline.py recipe=demo site=local            # about 15 minutes on 2 CPU cores
    python jobs/pipeline.py recipe=demo site=local seed=1 name=demo-1
    python jobs/pipeline.py recipe=demo site=local --dry-run  # say what would be launched, and launch nothing
    python jobs/pipeline.py recipe=demo site=test-cluster     # submit it all to Slurm and return

Run it again to go on after any interruption. `aworld pipeline` is the same.
"""

import sys

from aworld.launch.start import launch_run

if __name__ == "__main__":
    sys.exit(launch_run(__doc__))
