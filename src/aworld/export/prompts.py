"""The tasks that rounds played, for trainers that play them anew: one prompt a task, with its answer and difficulty."""

from collections.abc import Iterator
from dataclasses import dataclass

from aworld.bars import Advance
from aworld.config import Config
from aworld.export.conversation import Message, Reader
from aworld.export.rows import contexts
from aworld.rundir import RunDir
from aworld.tasks import make_source
from aworld.tasks.task import Task
from aworld.trajectories import file


@dataclass(frozen=True)
class Prompt:
    """
    Attributes:
        messages: system and user, as the first agent of its latest episode got them.
        attempts: at it in these rounds, without those that the machine lost.
        reward: their mean.
    """

    task: Task
    messages: list[Message]
    attempts: int
    reward: float


@dataclass
class _Measured:
    latest: int = -1
    attempts: int = 0
    rewards: float = 0.0


def prompts(run: RunDir, config: Config, rounds: list[int], reader: Reader, advance: Advance) -> Iterator[Prompt]:
    """The prompts of all tasks that these rounds played, each once, at its latest round.

    Raises:
        InputError: the tasks cannot be read.
        InfrastructureError: a file of trajectories is damaged.
    """
    if config.training.cold_start.conversations:
        rounds = [number for number in rounds if number]  # round 0 has blocks of rows, no tasks
    tasks = {task.task_id: task for task in make_source(config.tasks, run.tasks).tasks("train")}
    measured: dict[str, _Measured] = {}
    for number in rounds:
        table, _ = file.read_table(run.trajectories(number))
        for row in table[table["status"] != b"infra_error"]:
            one = measured.setdefault(row["task_id"].decode(), _Measured())
            one.latest, one.attempts, one.rewards = number, one.attempts + 1, one.rewards + float(row["reward"])
    for number in rounds:
        source = file.open_(run.trajectories(number))
        for row, task_id in enumerate(source.episodes["task_id"]):
            one = measured.get(task_id.decode(), _Measured())
            if one.latest == number and (found := contexts(source, row)):
                one.latest = -1  # its other episodes have the same prompt
                conversation = reader.read(found[0].ids, found[0].mask)
                asked = next((m["content"] for m in conversation.prompt if m["role"] == "user"), "")
                task = tasks.get(task_id.decode()) or Task(task_id.decode(), asked, None, 1)
                yield Prompt(task, conversation.prompt, one.attempts, one.rewards / one.attempts)
        advance()
