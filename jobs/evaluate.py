#!/usr/bin/env python
"""Launch the evaluation of one policy of a run, on its held-out tasks or on a benchmark. On a local site, wait for it.

    python jobs/evaluate.py runs/demo --policy 5
    python jobs/evaluate.py runs/demo --policy 5 tasks=gaia-validation tasks.path=/data/GAIA evaluation.attempts=4

What is finished already is not played again. `aworld report RUN` shows the first, `aworld eval report RUN
gaia-validation 5` the second.
"""

import sys

from aworld.launch.single import launch_stage
from aworld.stages import EVALUATE

if __name__ == "__main__":
    sys.exit(launch_stage(EVALUATE, __doc__))
