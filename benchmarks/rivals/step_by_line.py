"""What the scripts *_step.py have in common: they make an optimizer step for each line of stdin."""

import json
import sys
import time
from collections.abc import Callable


def serve(step: Callable[[], tuple[float, float]]) -> None:
    """Print loss, norm of the gradient and CPU seconds of each step as JSON.

    Args:
        step: makes a step; returns its loss, and the norm of its gradient before clipping.
    """
    for _ in sys.stdin:
        began = time.process_time()
        loss, norm = step()
        print(json.dumps({"loss": loss, "norm": norm, "seconds": time.process_time() - began}), flush=True)
