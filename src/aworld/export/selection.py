"""What is exported: the rounds and the evaluations that the arguments name."""

import re

from aworld import tasks
from aworld.config import Config
from aworld.errors import InputError
from aworld.evaluation import benchmark
from aworld.rundir import HELD_OUT, RunDir, numbered

_RANGE = re.compile(r"(\d+)(?:\.\.(\d*))?")


def rounds(run: RunDir, wanted: str | None) -> list[int]:
    """The gathered rounds that `wanted` names: 3, 3..7, or 3.. to the last; None: all.

    Raises:
        InputError: it names none.
    """
    there = [int(path.name) for path in numbered(run.root / "rounds") if run.trajectories(int(path.name)).exists()]
    if not there:
        raise InputError(f"{run.root} has no gathered round yet; see how far it is: aworld status {run.root}")
    if wanted is None:
        return there
    if not (found := _RANGE.fullmatch(wanted)):
        raise InputError(f"--rounds {wanted}: write one round, as 3, or a range, as 3..7 or 3..")
    low = int(found[1])
    high = low if found[2] is None else int(found[2] or there[-1])
    if not (within := [number for number in there if low <= number <= high]):
        raise InputError(f"--rounds {wanted}: there are the rounds {there[0]} to {there[-1]} in {run.root}")
    return within


def evaluations(run: RunDir, wanted: list[str]) -> list[tuple[str, int]]:
    """The name and the policy's version of each evaluation that `wanted` names: `held-out`, `held-out-24`; empty: all.

    Raises:
        InputError: there is none, or none of such a name.
    """
    benchmarks = sorted(path.parent.name for path in (run.root / "evals").glob("*/config.yaml"))
    there = [
        (name, int(folder.name))
        for name in (HELD_OUT, *benchmarks)
        for folder in numbered(run.root / "evals" / name)
        if benchmark.is_begun(folder)
    ]
    if not there:
        raise InputError(f"{run.root} has no evaluation with an episode; begin one: aworld launch evaluate {run.root}")
    chosen: list[tuple[str, int]] = []
    for word in wanted:
        named = [one for one in there if word in (one[0], f"{one[0]}-{one[1]}")]
        if not named:
            raise InputError(
                f"--evaluations {word}: no such evaluation; there are: {', '.join(f'{n}-{v}' for n, v in there)}"
            )
        chosen += [one for one in named if one not in chosen]
    return chosen or there


def check_trainable(config: Config) -> None:
    """Check that the tasks of the rounds may become another trainer's.

    Raises:
        InputError: they are those of a benchmark.
    """
    for part in config.tasks.mixture.values() or [config.tasks]:
        if not tasks.is_own(part) and "purpose" in tasks.uses(part):
            raise InputError(
                f"the rounds of this run play the benchmark {part.source}; its tasks and episodes are not to be passed "
                "on. Where the files stay with you and measure nothing, add --allow-benchmark"
            )
