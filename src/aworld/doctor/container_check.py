"""Faults of a task's container, found without a model: its solution has to be worth 1, and doing nothing 0."""

import asyncio
from pathlib import Path

from aworld.doctor.task_faults import Fault
from aworld.environments.container import prepare
from aworld.environments.scorer import Scorer
from aworld.errors import InfrastructureError
from aworld.nodelocal import remove
from aworld.tasks.task import Container, Task, Verification


async def container_faults(task: Task, container: Container, scorer: Scorer, seconds: float) -> list[Fault]:
    """Run the test after the solution, where there is one, and after nothing.

    Args:
        seconds: limit of the solution.

    Raises:
        InputError: there is no Apptainer here.
    """
    folders = [scorer.folder(), scorer.folder()]
    try:
        texts = [
            *(await _solved(container, scorer, folders[0], seconds) if container.solution else ()),
            *await _untouched(container, scorer, folders[1]),
        ]
    except InfrastructureError as reason:
        texts = [f"{reason}; build its image anew"]
    finally:
        for folder in folders:
            await asyncio.to_thread(remove, folder)
    return [Fault(task.task_id, text) for text in texts]


async def _solved(container: Container, scorer: Scorer, folder: Path, seconds: float) -> list[str]:
    solved = await scorer.solve(container, folder, seconds)
    found = await scorer.verify(Verification(container, folder))
    if found.worth.reward == 1.0:
        return []
    return [
        f"the solution is worth {found.worth.reward:g}, but has to be worth 1 (solve.sh: {solved or 'silent'}; "
        f"test.sh: {found.said or 'silent'}); mend them, or put into the image what they would download"
    ]


async def _untouched(container: Container, scorer: Scorer, folder: Path) -> list[str]:
    prepare(folder)
    found = await scorer.verify(Verification(container, folder))
    if found.worth.reward == 0.0:
        return []
    return [
        f"doing nothing is worth {found.worth.reward:g}, but has to be worth 0 (test.sh: {found.said or 'silent'}); "
        "mend the test"
    ]
