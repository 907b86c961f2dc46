#!/usr/bin/env python
"""Launch the evaluation of one policy of a run on the held-out tasks. On a local site, wait for it.

    python jobs/evaluate.py runs/demo --policy 5

What is finished already is not played again; `aworld report RUN` shows the result.
"""

import sys

from aworld.launch.single import launch_stage

if __name__ == "__main__":
    sys.exit(launch_stage("evaluate", __doc__))
