"""What the trainer and a worker import before they compute."""

import atexit
import gc

import aworld.rollout.stage  # noqa: F401
from aworld.training import rank

rank.load()
atexit.register(gc.unfreeze)  # else Triton complains in the end of what is left
