"""Faults of a set of tasks that no model is needed to find: ids, questions, attachments, gold answers, scorer."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aworld.errors import InputError
from aworld.tasks import id_fault
from aworld.tasks.task import Task, Undecided, check_fetched

ABSURD = "zxqv, no answer to anything 8125.0625"

Score = Callable[[str, Task], Awaitable[float]]


@dataclass(frozen=True)
class Fault:
    """`text` says what is wrong, and after a semicolon how to mend it."""

    task_id: str
    text: str


def faults_of(tasks: Iterable[Task], is_withheld: bool) -> Iterator[Fault]:
    """Faults of the tasks of one split; see `score_faults` for its scorer's.

    Args:
        is_withheld: whether the split has no gold answers.
    """
    seen: set[str] = set()
    for task in tasks:
        name = str(task.task_id)
        if fault := id_fault(task, seen):
            yield Fault(name, f"the task id {task.task_id!r} {fault}")
        seen.add(name)
        if not isinstance(task.question, str) or not task.question.strip():
            yield Fault(name, "the question is empty; write one, or leave the task out")
        if task.is_withheld and not is_withheld:
            yield Fault(name, "there is no gold answer; add it, or leave the task out")
        elif task.answer is not None and not str(task.answer).strip():
            yield Fault(name, "the gold answer is empty; write it, or None where it is withheld")
        yield from (Fault(name, text) for text in _of_files(task.files))


def _of_files(files: tuple[Path, ...]) -> Iterator[str]:
    for name, count in Counter(path.name for path in files).items():
        if count > 1:
            yield f"{count} attachments are called {name}; give each a name of its own"
    for path in files:
        try:
            check_fetched(path)
        except InputError as error:
            yield str(error)
        except OSError as error:
            yield f"the attachment {path} cannot be read ({error.strerror}); put it there, or mend its permissions"


async def score_faults(task: Task, score: Score) -> list[Fault]:
    """Faults of the reward at one task. The gold answer has to be worth 1, an empty or absurd one less.

    Raises:
        AWorldError: it can score no answer at all.
    """
    faults = []
    for name, answer, is_right in (
        *([("gold answer", str(task.answer), True)] if task.answer is not None else []),
        ("empty answer", "", False),
        (f"answer {ABSURD!r}", ABSURD, False),
    ):
        try:
            worth = await score(answer, task)
        except Undecided as error:
            faults.append(f"the {name} cannot be scored: {error}; mend the scorer")
            continue
        if (worth == 1.0) != is_right:
            wanted = "be worth 1" if is_right else "be worth less"
            faults.append(f"the {name} is worth {worth:g}, but has to {wanted}; mend the scorer or the gold answer")
    return [Fault(task.task_id, text) for text in faults]
