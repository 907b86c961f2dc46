"""Contenders that make the same optimizer step in turns: each is timed, and left out where it makes another one."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import isclose

import results

from aworld.errors import InfrastructureError

AGREE = 1e-4  # of losses and gradient norms


@dataclass(frozen=True)
class Made:
    """A step that was made: its loss, the norm of its gradient before clipping, and CPU seconds."""

    loss: float
    norm: float
    seconds: float


Step = Callable[[], Made]


def timed(steps: dict[str, Step], repeats: int, reference: str) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The CPU seconds of steps that alternate, after one of each that is not timed; and why a contender has none.

    A contender has none where its process ends, or where a loss or the norm of a gradient differs from that of the
    contender `reference`.
    """
    made: dict[str, list[Made]] = {name: [] for name in steps}
    faults: dict[str, str] = {}

    def seconds_of(name: str) -> float:
        try:
            if name not in faults:
                made[name].append(steps[name]())
                return made[name][-1].seconds
        except InfrastructureError as reason:
            faults[name] = str(reason)
        return 0.0

    results.alternate(1 + repeats, **{name: partial(seconds_of, name) for name in steps})
    for name in [name for name in steps if name not in faults]:
        for step, right in zip(made[name], made[reference], strict=True):
            if not agree(step, right):
                faults[name] = f"loss {step.loss:g} and norm {step.norm:g}, not {right.loss:g} and {right.norm:g}"
                break
    return {name: [one.seconds for one in made[name][1:]] for name in steps if name not in faults}, faults


def agree(one: Made, other: Made) -> bool:
    """Whether both made the same step, but for rounding."""
    pairs = ((one.loss, other.loss), (one.norm, other.norm))
    return all(isclose(*pair, rel_tol=AGREE, abs_tol=AGREE) for pair in pairs)


@contextmanager
def stepping(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Step]:
    """The step of a program like those of rivals/*_step.py, which makes one for each line of its stdin."""
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        asks, answers = process.stdin, process.stdout

        def step() -> Made:
            with suppress(BrokenPipeError):  # that it has ended shows below
                print(file=asks, flush=True)
            for line in answers:
                if line.startswith('{"loss"'):  # libraries print as well
                    return Made(**json.loads(line))
            raise InfrastructureError(f"its process ended with exit code {process.wait()}")

        yield step
        with suppress(BrokenPipeError):
            asks.close()
