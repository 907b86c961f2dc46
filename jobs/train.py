#!/usr/bin/env python
"""Launch the trainer on one round of a run. On a local site, wait for it.

    python jobs/train.py runs/demo --round 1

It goes on from the newest complete checkpoint, and publishes the policy of that round.
"""

import sys

from aworld.launch.single import launch_stage
from aworld.stages import TRAIN

if __name__ == "__main__":
    sys.exit(launch_stage(TRAIN, __doc__))
