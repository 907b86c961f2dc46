"""Wait for a policy in a job of its own, so that other jobs can depend on its publication."""

import time

from aworld.errors import InfrastructureError, InputError, Interrupted
from aworld.processes import Notice
from aworld.publish import is_complete
from aworld.rundir import RunDir, StallTimer


def await_policy(run: RunDir, version: int, seconds: float, poll: float) -> None:
    """Return once the policy is published. USR1, USR2 and TERM end the wait.

    Args:
        seconds: longest wait without progress of the run.
        poll: seconds between two looks.

    Raises:
        Interrupted: told to end before the policy was there.
        InputError: the policy is gone, and a later one is there: nobody makes it.
        InfrastructureError: nothing of the run became durable within `seconds`.
    """
    notice, timer = Notice(), StallTimer(run, seconds)
    while not is_complete(run.policy(version)):
        if run.lacks(version):
            raise InputError(
                f"policy {version} is gone; make it anew: aworld train {run.root} --round {version}, then: aworld "
                f"resume {run.root}"
            )
        if notice.soon:
            raise Interrupted(f"told to end while waiting for policy {version}")
        if timer.has_stalled():
            raise InfrastructureError(
                f"no policy {version} yet, and nothing got on for {seconds:.0f} s; see the trainer's log in "
                f"{run.logs}, then: aworld resume {run.root}"
            )
        time.sleep(poll)
