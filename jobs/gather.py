#!/usr/bin/env python
"""Launch the MPI gather of one round of a run. On a local site, wait for it.

    python jobs/gather.py runs/demo --round 1

Every journal of the round goes into one `trajectories.h5`; a round gathered already stays as it is.
"""

import sys

from aworld.launch.single import launch_stage
from aworld.stages import GATHER

if __name__ == "__main__":
    sys.exit(launch_stage(GATHER, __doc__))
