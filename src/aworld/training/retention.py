"""Which policies, checkpoints and copies of a run stay. Only names are looked at: nothing here reads a weight.

The rules are `pipeline.keep_policies` and `pipeline.keep_checkpoints`. Whatever something still needs stays as well.
The trainer removes the rest after each policy and each checkpoint; `aworld prune RUN` does so by hand.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aworld.config import Config, Keep
from aworld.policies.abandoned import users_of
from aworld.policies.folder import bases
from aworld.publish import discard, is_complete, is_idle, sweep
from aworld.rundir import RunDir
from aworld.training.position import Position, positions


@dataclass(frozen=True)
class Kept:
    """A policy, a checkpoint, or a node's copies, and the reason why it stays; "": nothing needs it."""

    folder: Path
    why: str


def policies(config: Config, run: RunDir, made: int | None = None) -> list[Kept]:
    """Every complete policy up to the newest one, in order.

    Args:
        made: the version that was just published. It stays, as somebody asked for it.
    """
    versions = run.policies()
    why = {version: _why_policy(config, run, versions, version) for version in versions}
    if made in why:
        why[made] = why[made] or "just made"
    for version in [version for version in versions if why[version]]:
        for base in bases(run, version):
            why[base] = why.get(base, "") or f"policy {version} is made of it"
    return [Kept(run.policy(version), why[version]) for version in versions]


def _why_policy(config: Config, run: RunDir, versions: list[int], version: int) -> str:
    keep, pipeline = config.pipeline.keep_policies, config.pipeline
    played_by = range(version + 1, min(version + 1 + pipeline.max_lag, pipeline.rounds) + 1)
    folders = [path for path in (run.root / "evals").glob(f"*/{version:04d}") if path.is_dir()]
    planned = pipeline.evaluation_overrides if version in pipeline.evaluated else {}
    wanted = [*folders, *(run.evaluation(name, version) for name in planned)]
    if version == versions[-1]:
        return "the newest"
    if version == 0:
        return "the first: training begins with it"
    if waiting := [number for number in played_by if not run.trajectories(number).exists()]:
        return f"round {waiting[0]} may play it"
    if any(not (folder / "timing.json").exists() for folder in wanted):
        return "an evaluation of it is not finished"
    if keep.evaluated and wanted:
        return "evaluated"
    return _by_rule(keep, versions[::-1].index(version), version)


def _by_rule(keep: Keep, age: int, round_: int | None) -> str:
    """Why the item that is the `age`-th from the newest stays; of a round, where it holds a whole one."""
    if keep.last is None or age < keep.last:
        return "one of the last" if keep.last else "all are kept"
    return f"every {keep.every}th" if keep.every and round_ is not None and round_ % keep.every == 0 else ""


def checkpoints(config: Config, run: RunDir, written: Position | None = None) -> list[Kept]:
    """Every complete checkpoint, in order.

    Args:
        written: the one just written. Later ones stay: there are some if an earlier round is trained again, and the run
            goes on from them.
    """
    there = positions(run.checkpoints)
    until = [position for position in there if written is None or position <= written]
    found = [Kept(run.checkpoints / position.name, "later than the present one") for position in there[len(until) :]]
    for age, position in enumerate(reversed(until)):
        whole_round = position.round if position.step is None else None
        why = "the newest" if age == 0 else _by_rule(config.pipeline.keep_checkpoints, age, whole_round)
        found.append(Kept(run.checkpoints / position.name, why))
    return sorted(found, key=lambda kept: kept.folder.name)


def prune_policies(config: Config, run: RunDir, made: int | None = None) -> None:
    """Remove the policies that nothing needs. Looks at nothing where all are kept. `made`: as for `policies`."""
    if config.pipeline.keep_policies.last is not None:
        _remove(policies(config, run, made))


def prune_checkpoints(config: Config, run: RunDir, written: Position | None = None) -> None:
    """Remove checkpoints that nothing needs, and torn ones without a writer."""
    _remove(checkpoints(config, run, written))
    for path in run.checkpoints.glob("round-*"):
        if not is_complete(path) and is_idle(path):
            shutil.rmtree(path, ignore_errors=True)


def copies(run: RunDir) -> list[Kept]:
    """The folder of each node that has, or had, whole policies in the run directory. Asks Slurm for their jobs."""
    return [Kept(folder, why) for folder, why in users_of(run).items()]


def prune_copies(run: RunDir) -> None:
    """Remove the copies of nodes whose jobs have ended, and what an earlier removal left."""
    if (run.root / "copies").is_dir():
        sweep(run.root / "copies")
        _remove(copies(run))


def _remove(found: list[Kept]) -> None:
    for each in found:
        if not each.why:
            discard(each.folder)


def sizes(found: list[Kept]) -> Iterator[tuple[Kept, int]]:
    """Each with its bytes."""
    for each in found:
        yield each, sum(path.stat().st_size for path in each.folder.rglob("*") if path.is_file())
