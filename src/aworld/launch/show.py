"""Print one episode for a person to read."""

from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from aworld.errors import InputError
from aworld.rollout.workload import HELD_OUT
from aworld.rundir import RunDir
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

STYLES = {"prompt": "dim", "assistant": "cyan", "tool": "magenta"}


def show(run: RunDir, name: str | None, console: Console) -> None:
    """Print the episode `ROUND/TASK/ATTEMPT` or `eval-VERSION/TASK/ATTEMPT`; without a name, list what there is.

    Raises:
        InputError: there is no such episode.
    """
    if name is None:
        for part in sorted([*(run.root / "rounds").glob("*"), *(run.root / "evals" / HELD_OUT).glob("*")]):
            prefix = "eval-" if part.parent.name == HELD_OUT else ""
            episodes = _read(part)
            console.print(f"{prefix}{int(part.name)}/TASK/ATTEMPT: {len(episodes)} episodes", highlight=False)
            for episode in episodes[:3]:
                console.print(f"  {prefix}{episode.round}/{episode.task_id}/{episode.attempt}", highlight=False)
        return
    part, _, rest = name.partition("/")
    task_id, _, attempt = rest.rpartition("/")
    number = part.removeprefix("eval-")
    if not (number.isdigit() and attempt.isdigit() and task_id):
        raise InputError(f"'{name}' names no episode; write ROUND/TASK/ATTEMPT, such as 1/train-00007/0")
    folder = run.evaluation(HELD_OUT, int(number)) if part.startswith("eval-") else run.round(int(number))
    for episode in _read(folder):
        if (episode.task_id, episode.attempt) == (task_id, int(attempt)):
            _print(episode, console)
            return
    raise InputError(f"no episode {name} in {folder}; `aworld show {run.root}` lists what there is")


def _read(folder: Path) -> list[Episode]:
    return [e for path in sorted((folder / "journals").glob("*.journal")) for e in journal.read(path)]


def _print(episode: Episode, console: Console) -> None:
    console.print(Rule(f"round {episode.round} · {episode.task_id} · attempt {episode.attempt}"))
    for turn in episode.turns:
        head = turn.role if turn.tool is None else f"{turn.tool} {turn.arguments}"
        console.print(Text(head, style="bold " + STYLES.get(turn.role, "")))
        console.print(Text(turn.text, style="red" if turn.is_error else STYLES.get(turn.role, "")))
    console.print(Rule())
    console.print(
        f"answer {episode.answer!r} · reward {episode.reward:g} · {episode.status} · level {episode.level} · "
        f"{sum(episode.mask)} tokens sampled by policy {episode.policy_version} · {episode.seconds.get('total', 0):.1f} s "
        f"{episode.error}",
        highlight=False,
    )
