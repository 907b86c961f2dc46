"""Faults of a task's container, found without a model: its solution has to be worth 1, and doing nothing 0."""

from aworld.doctor.task_faults import Fault
from aworld.environments.container import prepare
from aworld.environments.scorer import Scorer
from aworld.tasks.task import Container, Task, Verification


async def container_faults(task: Task, container: Container, scorer: Scorer, seconds: float) -> list[Fault]:
    """Run the test after the solution, where there is one, and after nothing.

    Args:
        seconds: limit of the solution.

    Raises:
        InputError: there is no Apptainer here.
        InfrastructureError: the image does not start here.
    """
    faults = []
    if container.solution:
        folder = scorer.folder()
        solved = await scorer.solve(container, folder, seconds)
        found = await scorer.verify(Verification(container, folder))
        if found.worth.reward != 1.0:
            faults.append(
                f"the solution is worth {found.worth.reward:g}, but has to be worth 1 (solve.sh: {solved or 'silent'}; "
                f"test.sh: {found.said or 'silent'}); mend them, or put into the image what they would download"
            )
    folder = scorer.folder()
    prepare(folder)
    found = await scorer.verify(Verification(container, folder))
    if found.worth.reward != 0.0:
        faults.append(
            f"doing nothing is worth {found.worth.reward:g}, but has to be worth 0 (test.sh: "
            f"{found.said or 'silent'}); mend the test"
        )
    return [Fault(task.task_id, text) for text in faults]
