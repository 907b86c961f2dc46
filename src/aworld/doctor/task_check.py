"""`aworld tasks check`: tasks, their attachments, their sandbox and their reward, checked without a model."""

import argparse
import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from aworld import config as configuration
from aworld import tasks
from aworld.config import Config, Endpoint, Source, Tasks, bounds, places
from aworld.doctor.task_faults import Fault, faults_of, score_faults
from aworld.errors import InputError, printable
from aworld.tasks.rows import BadRows
from aworld.tasks.task import Task, TaskSet

SPLITS = ("train", "held_out")


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    of_tasks = commands.add_parser("tasks", help="check a set of tasks before a model plays it")
    text = "check ids, questions, attachments, gold answers, the sandbox and the reward of tasks, without a model"
    check = of_tasks.add_subparsers(required=True, metavar="COMMAND").add_parser("check", help=text, description=text)
    check.add_argument("words", nargs="+", metavar="KEY=VALUE", help="such as tasks=gaia-validation tasks.path=FOLDER")
    places.add_option(check)
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    is_demo = not any(word.startswith("recipe=") for word in arguments.words)
    words = [*(["recipe=demo"] if is_demo else []), *arguments.words]
    return check_tasks(configuration.load(words, arguments.configs), Console())


def check_tasks(config: Config, console: Console) -> int:
    """Print a table of the tasks and a line for each fault; returns the exit code: 0, or 2 where there is a fault.

    Raises:
        InputError: the tasks cannot be read.
        InfrastructureError: no sandbox starts.
    """
    bounds.check(config)
    tasks.check(config.tasks)
    exact = _without_judge(config.tasks)
    with tempfile.TemporaryDirectory() as folder:
        try:
            source = tasks.make_source(exact, Path(folder) / "tasks")
        except BadRows as bad:
            _print_faults(bad.lines, console)
            console.print(f"{len(bad.lines)} row{'' if len(bad.lines) == 1 else 's'} no task", highlight=False)
            return InputError.exit_code
        splits = {split: found for split in SPLITS if (found := list(source.tasks(split)))}
        if not splits:
            raise InputError(f"tasks.source={exact.source} has no tasks; mend tasks.path, or the module")
        faults = [fault for found in splits.values() for fault in faults_of(found, _is_withheld(config, found))]
        answered = [task for found in splits.values() for task in found if not task.is_withheld]
        faulty = {fault.task_id for fault in faults}
        everything = [task for found in splits.values() for task in found if task.task_id not in faulty]
        scored = everything if source.reads_files else answered
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("scoring", total=len(scored))
            found_faults, sandbox = asyncio.run(_scored(config, source, scored, lambda: progress.advance(bar)))
            faults += found_faults
    console.print(_table(splits, _tokens(config)))
    console.print(f"sandbox: {sandbox}", highlight=False, soft_wrap=True)
    _print_faults((f"{fault.task_id}: {fault.text}" for fault in faults), console)
    count = sum(map(len, splits.values()))
    kept = f"{count - len(answered)} without a gold answer, " if len(answered) < count else ""
    console.print(f"{count} tasks, {kept}{len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}", highlight=False)
    return InputError.exit_code if faults else 0


def _is_withheld(config: Config, found: list[Task]) -> bool:
    """Whether the gold answers of a whole split are withheld, as of a test split. Other splits should have them, where
    the reward needs them."""
    has_names = "split" in tasks.uses(config.tasks)
    return all(task.answer is None for task in found) and (config.tasks.split == "test" or not has_names)


def _without_judge(config: Source) -> Any:
    """The same tasks; no model is asked about their answers."""
    own = replace(config, judge=Endpoint())
    if isinstance(own, Tasks):
        own.mixture = {name: _without_judge(part) for name, part in own.mixture.items()}
    return own


def _print_faults(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(f"[red]fault[/] {escape(printable(line))}", highlight=False, soft_wrap=True)


async def _scored(
    config: Config, source: TaskSet, asked: list[Task], advance: Callable[[], None]
) -> tuple[list[Fault], str]:
    """Faults of the reward; and the sandbox that was started, in words.

    The reward runs as in a rollout: within its time limit, its programs in the sandbox.
    """
    from aworld.containers import staged_image
    from aworld.doctor.container_check import container_faults
    from aworld.environments.pool import EnvironmentPool
    from aworld.environments.sandbox import choose
    from aworld.environments.scorer import Scorer
    from aworld.environments.scratch import stage
    from aworld.rollout.scoring import AT_ONCE, Scoring, answered

    sandbox = choose(config.site.sandbox, staged_image(config.site.images.environment, config.site.scratch))
    async with AsyncExitStack() as stack:
        scratch = Path(config.site.scratch or tempfile.gettempdir())
        programs = await stack.enter_async_context(Scorer(sandbox, config.environment, scratch))
        score = Scoring(source.reward, partial(tasks.score_seconds, config.tasks), programs.run)
        at_once = asyncio.Semaphore(AT_ONCE)

        async def faults(task: Task) -> list[Fault]:
            limit = task.seconds or config.agent.episode_seconds
            by_test = container_faults(task, task.container, programs, limit) if task.container else None
            found = await (by_test or score_faults(task, worth))
            advance()
            return found

        async def worth(answer: str, task: Task) -> float:
            async with at_once:
                files = programs.folder() if source.reads_files else None
                if files:
                    await asyncio.to_thread(stage, task.files, files)
                return (await score(answered(task, answer), task, files)).reward

        found = [fault for some in await asyncio.gather(*map(faults, asked)) for fault in some]
        servers = [name for name in config.environment.servers if name != "search" or source.corpus]
        inside = replace(config.environment, slots=1, servers=servers, mcp={}, web=[])
        pool = await stack.enter_async_context(EnvironmentPool(inside, sandbox, source.corpus, scratch))
        faulty = {fault.task_id for fault in found}
        container = next((task.container for task in asked if task.container and task.task_id not in faulty), None)
        async with pool.episode(container=container) as environment:
            tools = ", ".join(tool["function"]["name"] for tool in environment.tools)
        return found, f"{container.image if container else sandbox.name} starts with {tools}"


def _tokens(config: Config) -> Callable[[str], int] | None:
    """Counts the tokens of a text by the model's tokenizer; None where its folder is not here."""
    file = Path(config.model.path or "", "tokenizer.json")
    if not config.model.path or not file.is_file():
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _table(splits: dict[str, list[Task]], tokens: Callable[[str], int] | None) -> Table:
    table = Table()
    for head in ("split", "level", "tasks", "attachments", "longest question"):
        table.add_column(head, justify="right" if head in ("level", "tasks") else "left")
    for split, found in splits.items():
        for level in sorted({task.level for task in found}):
            of_level = [task for task in found if task.level == level]
            longest = max((str(task.question) for task in of_level), key=len)
            size = f"{len(longest)} characters" + (f", {tokens(longest)} tokens" if tokens else "")
            table.add_row(split, str(level), str(len(of_level)), escape(_kinds(of_level)), size)
    return table


def _kinds(found: list[Task]) -> str:
    """The attachments by the ends of their names, such as "12 xlsx, 3 png"."""
    kinds = Counter(path.suffix.removeprefix(".").lower() or "no suffix" for task in found for path in task.files)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
