#!/usr/bin/env python
"""Launch the rollout workers of one round of a run. On a local site, wait for them.

    python jobs/rollout.py runs/demo --round 1

The policy it needs must be published; what is finished already is not played again.
"""

import sys

from aworld.launch.single import launch_stage
from aworld.stages import ROLLOUT

if __name__ == "__main__":
    sys.exit(launch_stage(ROLLOUT, __doc__))
