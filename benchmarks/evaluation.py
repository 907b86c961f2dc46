#!/usr/bin/env python
"""An evaluation of 165 made-up items in GAIA's shape: its time, its CPU seconds, and a kill in the middle.

    python benchmarks/evaluation.py             # ours against the bound: four minutes on 2 cores
    python benchmarks/evaluation.py --rivals    # beside inspect_ai and smolagents: a quarter of an hour

All ask one local endpoint, whose replies and latencies follow from the question, in as many slots, with the same Python
tool, started anew for each item. Each evaluation is played undisturbed, and once more: half of its items are answered
when every process of it gets SIGKILL, and the same command is given again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gaia_items
import results
from gaia_items import Item
from gaia_systems import RIVALS, ROOT, SLOTS, System, environment, ours, rival
from results import Figure, positive
from rivals import left_out, version
from usage import Group

from aworld.errors import InfrastructureError, guarded
from aworld.tasks.scoring import gaia_correct

GIVE_UP = 900.0  # seconds after which an evaluation hangs
SETTLED = 1.0  # seconds in which a system may write down an answer that it has just got


@dataclass(frozen=True)
class Played:
    """One evaluation, from its command to the end of its last process.

    Attributes:
        cpu: seconds of all its processes.
        starting: seconds from the first command to the first request.
        playing: seconds from the first request to the last reply.
        turns: requests that the endpoint got.
        again: items that were asked anew though their answer had been given SETTLED seconds before the kill.
    """

    seconds: float
    cpu: float
    starting: float
    playing: float
    turns: int
    again: int
    answers: dict[str, str | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", action="store_true", help="measure beside inspect_ai and smolagents")
    parser.add_argument("--items", type=positive, default=gaia_items.COUNT)
    parser.add_argument("--scale", type=float, default=0.6, help="of the endpoint's latencies (default: 0.6)")
    parser.add_argument("--repeats", type=positive, default=2)
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    arguments = parser.parse_args()
    faults: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        played = gaia_items.items(arguments.items)
        systems = [ours(Path(folder), played)]
        for name in RIVALS if arguments.rivals else ():
            with left_out(name, faults):
                systems.append(rival(name, Path(folder)))
        found = measure(systems, played, arguments.scale, arguments.repeats, Path(folder), faults)
    says, figures = report(found, played, arguments.scale)
    says += [f"{name} failed here and is left out." for name in faults]
    packages = [version(environment(name), name) for name in found if name != "ours"]
    title = f"Evaluation: {len(played)} made-up items" + (", beside other runners" if arguments.rivals else "")
    if arguments.keep:
        results.keep(f"evaluation{'-rivals' * arguments.rivals}", title, says, figures, packages)
    else:
        results.Console().print(results.table(title, figures), *says, sep="\n")


def measure(
    systems: Sequence[System],
    played: Sequence[Item],
    scale: float,
    repeats: int,
    folder: Path,
    faults: dict[str, str],
) -> dict[str, dict[str, list[Played]]]:
    """By system: the evaluations that were undisturbed, and those that were killed.

    A rival that fails is left out, and the reason noted in `faults`.

    Raises:
        InfrastructureError: ours failed.
    """
    found: dict[str, dict[str, list[Played]]] = {each.name: {"undisturbed": [], "killed": []} for each in systems}

    def one(system: System, kind: str) -> float:
        name, kill_after = system.name, len(played) // 2 if kind == "killed" else None
        if name in faults:
            return 0.0
        with (
            nullcontext() if name == "ours" else left_out(name, faults),
            tempfile.TemporaryDirectory(dir=folder) as place,
        ):
            result = evaluate(system, Path(place) / "evaluation", played, scale, kill_after)
            found[name][kind].append(result)
            print(f"{name}, {kind}: {result.seconds:.1f} s, {result.cpu:.1f} CPU s", file=sys.stderr, flush=True)
            return result.seconds
        return 0.0  # it has failed

    kinds = {f"{each.name} {kind}": partial(one, each, kind) for each in systems for kind in found[each.name]}
    results.alternate(repeats, **kinds)
    return {name: runs for name, runs in found.items() if name not in faults}


def report(
    found: dict[str, dict[str, list[Played]]], played: Sequence[Item], scale: float
) -> tuple[list[str], list[Figure]]:
    """The sentences and the figures."""
    figures, limit = [], gaia_items.bound(played, SLOTS, scale)
    compared: list[Figure] = []
    for name, runs in found.items():
        figures += figures_of(name, runs["undisturbed"], runs["killed"], played, limit)
        if name != "ours":
            compared += figures_beside(name, runs, found["ours"])
    says = [
        f"{len(played)} items ask for {turns_of(played)} turns in {SLOTS} slots; a turn's latency is log-normal with a "
        f"median of {gaia_items.TURN_SECONDS * scale:.1f} s. The bound is max(longest item, sum / slots) = {limit:.0f} "
        "s. Seconds are those of the whole command, its start included.",
        "Some of the endpoint's answers are wrong, always the same: all systems should get the same score. An item "
        f"counts as played again if its answer had been given {SETTLED:g} s before the kill.",
    ]
    if compared:
        says.append(
            "All have a new tool server for each item; ours runs in a sandbox, the others' as a plain process. "
            "inspect_ai plays by eval_set and react. smolagents plays by a ToolCallingAgent; only its threads and its "
            "JSON lines are as in its own example of GAIA."
        )
    return [*says, *results.losses(compared)], [*figures, *compared]


def figures_of(
    name: str, whole: Sequence[Played], killed: Sequence[Played], played: Sequence[Item], limit: float
) -> list[Figure]:
    """The figures of one system; ours have goals."""
    zero = 0.0 if name == "ours" else None
    every, turns = [*whole, *killed], turns_of(played)
    pairs = zip(killed, whole, strict=True)
    return [
        Figure(f"{name}: bound / seconds", [limit / run.seconds for run in whole]),
        Figure(f"{name}: bound / seconds from first request to last reply", [limit / run.playing for run in whole]),
        Figure(f"{name}: seconds until the first request", [run.starting for run in whole], "s"),
        Figure(f"{name}: CPU seconds per item", [run.cpu / len(played) for run in whole], "s"),
        Figure(f"{name}: answers other than expected", [differences(run, played) for run in every], at_most=zero),
        Figure(f"{name}: GAIA's score", [score(run, played) for run in every], "%"),
        Figure(f"{name}: seconds with a kill / without", [one.seconds / other.seconds for one, other in pairs]),
        Figure(f"{name}: answered items played again after a kill", [run.again for run in killed], at_most=zero),
        Figure(f"{name}: model turns repeated after a kill", [run.turns - turns for run in killed]),
    ]


def figures_beside(name: str, runs: dict[str, list[Played]], own: dict[str, list[Played]]) -> list[Figure]:
    """A rival's amounts by ours."""
    pairs = list(zip(runs["undisturbed"], own["undisturbed"], strict=True))
    killed = list(zip(runs["killed"], own["killed"], strict=True))
    return [
        Figure(f"{name} / ours: seconds", [one.seconds / other.seconds for one, other in pairs]),
        Figure(f"{name} / ours: seconds with a kill", [one.seconds / other.seconds for one, other in killed]),
        Figure(f"{name} / ours: CPU seconds", [one.cpu / other.cpu for one, other in pairs]),
    ]


def turns_of(played: Sequence[Item]) -> int:
    """How many requests the items need."""
    return sum(len(item.seconds) for item in played)


def evaluate(
    system: System, folder: Path, played: Sequence[Item], scale: float, kill_after: int | None = None
) -> Played:
    """Evaluate in a new folder.

    Args:
        kill_after: kill it once so many items have their answer, and give the command again; None: leave it alone.

    Raises:
        InfrastructureError: the command failed or hung, or asked for other turns than the items need.
    """
    system.prepare(folder)
    log = folder.with_suffix(".log")
    log.touch()
    with serving(log, scale) as address, Group() as group:
        command, began, killed_at = system.command(folder, address), time.time(), None
        if kill_after is not None:
            with started(command, folder, group) as process:
                while len(answered(events(log))) < kill_after:
                    if process.poll() is not None or time.time() > began + GIVE_UP:
                        raise InfrastructureError(f"{system.name} ended or hung before its kill: {said(folder)}")
                    time.sleep(0.05)
                killed_at = time.time()
        with started(command, folder, group) as process:
            try:
                code = process.wait(GIVE_UP)
            except subprocess.TimeoutExpired:
                raise InfrastructureError(f"{system.name} hung for {GIVE_UP:g} s: {said(folder)}") from None
            if code:
                raise InfrastructureError(f"{system.name} failed: {said(folder)}")
            seconds = time.time() - began
        cpu = group.cpu()
    seen = events(log)
    times = [event["time"] for event in seen]
    asked, wanted = [event for event in seen if event["what"] == "asked"], turns_of(played)
    if len(asked) < wanted or (kill_after is None and len(asked) > wanted):
        raise InfrastructureError(f"{system.name} asked for {len(asked)} turns instead of {wanted}: {said(folder)}")
    again: set[int] = set()
    if killed_at:
        had = answered([event for event in seen if event["time"] < killed_at - SETTLED])
        again = had & {event["item"] for event in asked if event["time"] > killed_at}
    playing, answers = max(times) - min(times), system.answers(folder)
    return Played(seconds, cpu, min(times) - began, playing, len(asked), len(again), answers)


@contextmanager
def serving(log: Path, scale: float) -> Iterator[str]:
    """The address of a new endpoint."""
    command = [sys.executable, gaia_items.__file__, "--log", log, "--scale", str(scale)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.stdin.close()


@contextmanager
def started(command: list[str], folder: Path, group: Group) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a session of its own; what it says is in a file beside the folder. Nothing of it is left."""
    with folder.with_suffix(".said").open("ab") as out:
        options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, "start_new_session": True}
        process = subprocess.Popen(command, cwd=ROOT, preexec_fn=group.join, **options)
        try:
            yield process
        finally:
            group.kill()
            process.wait()


def said(folder: Path) -> str:
    return folder.with_suffix(".said").read_text(errors="replace").strip()[-500:]


def events(log: Path) -> list[dict[str, object]]:
    """What the endpoint has noted; a line that is being written is left out."""
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def answered(seen: list[dict[str, object]]) -> set[object]:
    """The items whose last reply was given."""
    return {event["item"] for event in seen if event["what"] == "replied" and event["last"]}


def differences(run: Played, played: Sequence[Item]) -> int:
    """How many items lack their answer or have another one."""
    return sum(run.answers.get(item.task_id) != item.answer(item.truth) for item in played)


def score(run: Played, played: Sequence[Item]) -> float:
    """Percent of the answers that GAIA's scorer takes."""
    return 100 * sum(gaia_correct(run.answers.get(item.task_id), item.truth) for item in played) / len(played)


if __name__ == "__main__":
    sys.exit(guarded(main))
