"""Print one episode for a person to read."""

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from aworld.errors import InputError, printable
from aworld.rundir import HELD_OUT, RunDir, numbered
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode

STYLES = {"prompt": "dim", "assistant": "cyan", "tool": "magenta"}


def show(run: RunDir, name: str | None, console: Console) -> None:
    """Print an episode: `ROUND/TASK/ATTEMPT`, of an evaluation `NAME-VERSION/TASK/ATTEMPT`, such as held-out-0/a/1.

    Without a name, list what there is.

    Raises:
        InputError: there is no such episode.
    """
    if name is None:
        _list(run, console)
        return
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


def _list(run: RunDir, console: Console) -> None:
    benchmarks = sorted(path.parent.name for path in (run.root / "evals").glob("*/config.yaml"))
    kinds = [("rounds", ""), *((f"evals/{name}", f"{name}-") for name in (HELD_OUT, *benchmarks))]
    for kind, prefix in kinds:
        for folder in numbered(run.root / kind):
            episodes = journal.records(folder / "journals")
            _line(f"{prefix}{int(folder.name)}/TASK/ATTEMPT: {len(episodes)} episodes", console)
            for episode in episodes[:3]:
                _line(f"  {prefix}{episode.round}/{episode.task_id}/{episode.attempt}", console)
            if len(episodes) > 3:
                _line(f"  … and {len(episodes) - 3} more", console)


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
