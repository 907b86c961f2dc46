"""Export what is wanted of a run, with a bar while it is written and a line for each file."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from aworld.bars import bar
from aworld.config import Config
from aworld.errors import InputError
from aworld.export import selection, sft, trl, verl
from aworld.export.conversation import Reader
from aworld.export.prompts import prompts
from aworld.export.rows import sampled
from aworld.rundir import RunDir, open_run

PASSES = {"sft": 1, "verl": 2, "trl": 3}  # over the rounds


@dataclass(frozen=True)
class Wanted:
    """
    Attributes:
        rounds, evaluations: as the arguments name them; None: not named.
        is_all: wrong episodes too.
        is_benchmark_allowed: also where the rounds play a benchmark.
    """

    to: str
    rounds: str | None = None
    evaluations: Sequence[str] | None = None
    is_all: bool = False
    is_benchmark_allowed: bool = False


def export(folder: Path, wanted: Wanted, output: Path | None) -> None:
    """Write the files, below `output` or in the run's own `export/FORMAT`.

    Raises:
        InputError: what is wanted is not there, or not to be exported so.
    """
    config, run = open_run(folder)
    place = output or run.root / "export" / wanted.to
    if wanted.to == "inspect":
        lines: Iterable[str] = _to_inspect(config, run, wanted, place)
    else:
        lines = _to_trainer(config, run, wanted, place)
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(escape(f"{place}/{line}"))


def _to_trainer(config: Config, run: RunDir, wanted: Wanted, place: Path) -> list[str]:
    if wanted.evaluations is not None:
        raise InputError(
            f"--evaluations goes with --to inspect alone: {wanted.to} would train on what measures; choose --rounds"
        )
    rounds = selection.rounds(run, wanted.rounds)
    if not wanted.is_benchmark_allowed:
        selection.check_trainable(config)
    reader = _reader(config, run)
    if reader is None:
        raise InputError(f"{run.root} holds no policy and no base, whose tokenizer the tokens need; put one back")
    least = 0.0 if wanted.is_all else 1.0
    with bar(PASSES[wanted.to] * len(rounds), f"export to {wanted.to}") as advance:
        of_episodes = partial(sampled, run, rounds, least, advance)
        match wanted.to:
            case "sft":
                lines = sft.export(place, of_episodes(), reader)
            case "verl":
                lines = verl.tasks(place, prompts(run, config, rounds, reader, advance))
                lines += verl.conversations(place, of_episodes(), reader)
            case _:
                lines = trl.tokens(place, of_episodes())
                lines += trl.pairs(place, run, rounds, reader, advance)
                lines += trl.prompts(place, prompts(run, config, rounds, reader, advance))
    if not lines:
        which = "episode with tokens" if wanted.is_all else "right episode; --all takes the others too"
        raise InputError(f"the rounds {rounds[0]} to {rounds[-1]} of {run.root} have no {which}")
    return lines


def _to_inspect(config: Config, run: RunDir, wanted: Wanted, place: Path) -> Iterator[str]:
    if importlib.util.find_spec("inspect_ai") is None:
        raise InputError("--to inspect needs the package inspect-ai; install it: pip install 'aworld-slurm[inspect]'")
    from aworld.export import inspect_log, inspect_parts

    parts: list[Callable[[], inspect_log.Part]] = []  # made one at a time: each lists its episodes
    if wanted.rounds is not None:
        found = selection.rounds(run, wanted.rounds)
        if config.training.cold_start.conversations and not (found := [number for number in found if number]):
            raise InputError(
                f"--rounds {wanted.rounds}: the cold start of {run.root} is of conversations, which no task has; "
                "choose other rounds, or --to sft"
            )
        parts += [partial(inspect_parts.of_round, config, run, number) for number in found]
    if wanted.evaluations is not None or wanted.rounds is None:
        named = selection.evaluations(run, list(wanted.evaluations or ()))
        parts += [partial(inspect_parts.of_evaluation, run, *one) for one in named]
    reader = _reader(config, run)
    for make in parts:
        part = make()
        with bar(len(part.played.tasks) * part.played.attempts, part.name) as advance:
            yield inspect_log.export(place, part, reader, advance)


def _reader(config: Config, run: RunDir) -> Reader | None:
    """With the tokenizer of the newest policy, which is that of all; None: there is no policy."""
    newest = run.newest_policy()
    folders = [run.policy(newest), run.base] if newest >= 0 else [run.base]
    found = next((folder for folder in folders if (folder / "tokenizer.json").is_file()), None)
    return Reader(found, config.agent.enable_thinking) if found else None
