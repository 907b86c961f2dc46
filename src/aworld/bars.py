"""A progress bar for work that takes its time, on stderr where that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

Advance = Callable[[], None]  # tells that one more step is done


@contextmanager
def bar(steps: int | None, name: str) -> Iterator[Advance]:
    """A bar over `steps` steps; None: their number is not known."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=steps)
        yield lambda: progress.advance(task)
