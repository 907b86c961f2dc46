"""Print one episode for a person to read."""

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from aworld.errors import InputError, printable
from aworld.rundir import RunDir
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

STYLES = {"prompt": "dim", "assistant": "cyan", "tool": "magenta"}


def show(run: RunDir, name: str, console: Console) -> None:
    """Print an episode: `ROUND/TASK/ATTEMPT`, of an evaluation `NAME-VERSION/TASK/ATTEMPT`, such as held-out-0/a/1.

    Raises:
        InputError: there is no such episode.
    """
    part, _, rest = name.partition("/")
    task_id, _, attempt = rest.rpartition("/")
    kind, _, number = part.rpartition("-")
    if not (number.isdigit() and attempt.isdigit() and task_id):
        raise InputError(f"'{name}' names no episode; write ROUND/TASK/ATTEMPT, such as 1/train-00007/0")
    folder = run.evaluation(kind, int(number)) if kind else run.round(int(number))
    if episode := journal.find(folder / "journals", task_id, int(attempt)):
        _print(episode, part if kind else f"round {part}", console)
        return
    raise InputError(f"no episode {name} in {folder}; `aworld show {run.root}` lists what there is")


def _line(text: str, console: Console, style: str = "") -> None:
    """Print text as it is written: a policy's brackets are no markup, and its escapes no commands."""
    console.print(Text(printable(text), style=style))


def _print(episode: Episode, part: str, console: Console) -> None:
    console.print(Rule(Text(printable(f"{part} · {episode.task_id} · attempt {episode.attempt}"))))
    for turn in episode.turns:
        head = turn.role if turn.tool is None else f"{turn.tool} {turn.arguments}"
        if len(episode.contexts) > 1:
            head = f"{episode.contexts[turn.context].agent}: {head}"
        _line(head, console, "bold " + STYLES.get(turn.role, ""))
        _line(turn.text, console, "red" if turn.is_error else STYLES.get(turn.role, ""))
    console.print(Rule())
    parts = "".join(f", {name} {value:g}" for name, value in episode.reward_parts.items())
    parts = f" ({parts.removeprefix(', ')})" if parts else ""
    _line(
        f"answer {episode.answer!r} · reward {episode.reward:g}{parts} · {episode.status} · level {episode.level} · "
        f"{sum(episode.mask)} tokens sampled by policy {episode.policy_version} · "
        f"{episode.seconds.get('total', 0):.1f} s {episode.error}",
        console,
    )
