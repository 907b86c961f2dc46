"""The three ways to fail, each with its own exit code."""


class AWorldError(Exception):
    """A failure reported to the user as one line: what, where, the mend."""

    exit_code = 1


class InputError(AWorldError):
    """The user asked for something that cannot be: a misspelt key, a missing file."""

    exit_code = 2


class TaskError(AWorldError):
    """The work ran and came out wrong: no policy learned, no trajectory usable."""

    exit_code = 3


class InfrastructureError(AWorldError):
    """The machine failed, not the work: a shard died, a sandbox did not start. Retried within a cap."""

    exit_code = 4
