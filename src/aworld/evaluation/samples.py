"""Episodes of a run to read side by side: of its first and its last round, and of the same tasks before and after."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from aworld.evaluation.attempt import Attempt, first_sound
from aworld.rundir import HELD_OUT, RunDir, numbered
from aworld.trajectories import journal
from aworld.trajectories.frames import Entry

EACH = 2  # pairs of a kind
HIGHEST, LOWEST = "the highest reward", "the lowest reward"
Candidates = list[Entry]  # of one identity, the one to take first
Row = tuple[str, Candidates | None, Candidates | None]  # what it shows, and an episode of each side


@dataclass(frozen=True)
class Sample:
    """An episode to read.

    Attributes:
        key: its name, as `aworld show` takes it.
        question: of its task.
    """

    key: str
    attempt: Attempt
    question: str


@dataclass(frozen=True)
class Comparison:
    """Episodes of two sides beside each other.

    Attributes:
        sides: the names of one or two.
        pairs: by what they show, an episode of each side; None: that side has none.
    """

    title: str
    sides: list[str]
    pairs: dict[str, list[list[Sample | None]]]

    @property
    def episodes(self) -> dict[str, Attempt]:
        """By the keys of the samples."""
        pairs = [pair for of_kind in self.pairs.values() for pair in of_kind]
        return {sample.key: sample.attempt for pair in pairs for sample in pair if sample}


def samples(run: RunDir, rounds: list[int]) -> list[Comparison]:
    """Some episodes of the first and the last round, and of the first and the last evaluation on held-out tasks.

    Reads the heads of these four, and the texts of the episodes that it returns.

    Args:
        rounds: the numbers of those that are gathered.
    """
    played = _ends([number for number in rounds if number] or rounds)
    names = {str(number): f"Round {number}" if number else "The cold start" for number in played}
    sides = [_listed(run.round(number) / "journals") for number in played]
    found = [_comparison("Training", names, _extremes(sides))]
    folders = numbered(run.evaluation(HELD_OUT, 0).parent)
    evaluated = _ends([int(folder.name) for folder in folders if (folder / "timing.json").exists()])
    names = {f"{HELD_OUT}-{version}": f"Policy {version}" for version in evaluated}
    sides = [_listed(run.evaluation(HELD_OUT, version) / "journals") for version in evaluated]
    found.append(_comparison("Held-out tasks", names, _gains(*sides) if len(sides) == 2 else _extremes(sides)))
    return [one for one in found if one.pairs]


def _ends(numbers: list[int]) -> list[int]:
    """The first and the last of these numbers; one if they are the same."""
    return list(dict.fromkeys([*numbers[:1], *numbers[-1:]]))


def _listed(folder: Path) -> list[Candidates]:
    """The episodes in the journals of a folder that were not lost to the machine."""
    found = journal.by_identity(journal.listed_in(folder))
    return [one for one in found if one[0].record.status != "infra_error"]


def _extremes(sides: list[list[Candidates]]) -> list[Row]:
    """Of each side EACH episodes with the highest reward, EACH with the lowest. Tasks of both sides come first."""
    tasks = [{_task(one) for one in side} for side in sides]
    shared = set.intersection(*tasks) if tasks else set()
    seen: list[set[str]] = [set() for _ in sides]
    rows: list[Row] = []
    for kind, sign in ((HIGHEST, -1), (LOWEST, 1)):

        def order(one: Candidates, sign: int = sign) -> tuple[float, bool]:
            return sign * _reward(one), _task(one) not in shared

        left, right = [
            *(_of_new_tasks(sorted(side, key=order), on) for side, on in zip(sides, seen, strict=True)),
            [],
            [],
        ][:2]
        rows += ((kind, *pair) for pair in zip_longest(left, right))
    return rows


def _gains(before: list[Candidates], after: list[Candidates]) -> list[Row]:
    """The same attempts at the same tasks before and after: EACH of those that became better, worse, or stayed."""
    others = {one[0].record.identity[1:]: one for one in after}
    pairs = [(one, others[key]) for one in before if (key := one[0].record.identity[1:]) in others]
    pairs.sort(key=lambda pair: (-abs(_gain(pair)), pair[0][0].record.attempt, -pair[0][0].record.level))
    kinds: list[tuple[str, Callable[[tuple[Candidates, Candidates]], bool]]] = [
        ("better after training", lambda pair: _gain(pair) > 0),
        ("worse after training", lambda pair: _gain(pair) < 0),
        ("without reward in both", lambda pair: _reward(pair[0]) == _reward(pair[1]) == 0),
        ("with the same reward in both", lambda pair: _gain(pair) == 0 < _reward(pair[0])),
    ]
    seen: set[str] = set()
    rows: list[Row] = []
    for kind, is_wanted in kinds:
        chosen = _of_new_tasks([one for one, other in pairs if is_wanted((one, other))], seen)
        rows += ((kind, one, others[one[0].record.identity[1:]]) for one in chosen)
    return rows


def _of_new_tasks(ordered: Iterable[Candidates], seen: set[str]) -> list[Candidates]:
    """The first EACH of these episodes, of tasks that are not `seen`; adds theirs to it."""
    found: list[Candidates] = []
    for one in ordered:
        if len(found) < EACH and _task(one) not in seen:
            seen.add(_task(one))
            found.append(one)
    return found


def _task(one: Candidates) -> str:
    return one[0].record.task_id


def _reward(one: Candidates) -> float:
    return one[0].record.reward


def _gain(pair: tuple[Candidates, Candidates]) -> float:
    return _reward(pair[1]) - _reward(pair[0])


def _comparison(title: str, names: dict[str, str], rows: list[Row]) -> Comparison:
    """`names` are those of the sides, by how the names of their episodes begin."""
    pairs: dict[str, list[list[Sample | None]]] = {}
    for kind, *both in rows:
        each = [_sample(prefix, one) for prefix, one in zip(names, both, strict=False)]
        if any(each):
            pairs.setdefault(kind, []).append(each)
    return Comparison(title, list(names.values()), pairs)


def _sample(prefix: str, candidates: Candidates | None) -> Sample | None:
    """The sample of an episode; None: there is none, or its text is damaged."""
    for attempt in first_sound(candidates or []):
        return Sample(f"{prefix}/{attempt.task_id}/{attempt.attempt}", attempt, attempt.read().question)
    return None
