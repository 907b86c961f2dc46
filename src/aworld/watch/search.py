"""Searches the episodes of a round or an evaluation. Heads come first; a text is read where a pattern asks for it."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aworld.errors import InputError
from aworld.rundir import RunDir, numbered
from aworld.trajectories import file, journal
from aworld.trajectories.arrays import PHASES
from aworld.trajectories.episode import Episode
from aworld.trajectories.frames import Entry
from aworld.trajectories.journal import HEADER
from aworld.trajectories.record import Record

BESIDE = 30  # characters of a text that are shown on each side of what was found
SORTS: dict[str, Callable[[Record], tuple]] = {
    "": lambda record: (),
    "seconds": lambda record: (-record.seconds.get("total", 0.0),),
    "tokens": lambda record: (-record.tokens,),
    "reward": lambda record: (record.reward,),
}


@dataclass(frozen=True)
class Search:
    """What an episode must be like.

    Attributes:
        wrong: its reward is below 1.
        level: of its task.
        tool_error: one of its tool calls returned an error.
        status: how it ended.
        text: in its answer, in a turn, or in a tool call.
        sort: a key of SORTS: the most seconds or tokens first, or the lowest reward. Empty: by task and attempt.
    """

    wrong: bool = False
    level: int | None = None
    tool_error: bool = False
    status: str = ""
    text: re.Pattern[str] | None = None
    sort: str = ""

    def matches(self, record: Record) -> bool:
        """Whether the record fits, its text apart."""
        return (
            not (self.wrong and record.reward >= 1)
            and self.level in (None, record.level)
            and not (self.tool_error and not tool_errors(record))
            and self.status in ("", record.status)
        )


@dataclass(frozen=True)
class Place:
    """A round or an evaluation that has episodes.

    Attributes:
        name: begins the names of its episodes: `3` or `held-out-3`.
    """

    name: str
    folder: Path


def tool_errors(record: Record) -> int:
    """How many of its tool calls returned errors."""
    return sum(errors for _, errors in record.tools.values())


def places(run: RunDir) -> list[Place]:
    """All rounds and evaluations of which there is a folder; nothing in it is looked at."""
    found = [Place(str(int(folder.name)), folder) for folder in numbered(run.root / "rounds")]
    for kind in sorted(path for path in (run.root / "evals").glob("*") if path.is_dir()):
        found += [Place(f"{kind.name}-{int(folder.name)}", folder) for folder in numbered(kind)]
    return found


def newest(among: Iterable[Place]) -> Place | None:
    """The place whose episodes are the newest. Looks at the last of each kind, and before it until one has episodes."""
    kinds: dict[str, list[Place]] = {}
    for place in among:
        kinds.setdefault(place.name.rpartition("-")[0], []).append(place)
    found = [
        next(((time, place) for place in reversed(kind) if (time := _written(place))), None) for kind in kinds.values()
    ]
    return max((one for one in found if one), key=lambda one: one[0], default=(0.0, None))[1]


def _written(place: Place) -> float:
    """When its journals were last written, in seconds since 1970; 0: it has no episode."""
    paths = [*place.folder.glob("journals/*.journal")] or [*place.folder.glob("trajectories.h5")]
    status = [path.stat() for path in paths]
    return max((each.st_mtime for each in status if each.st_size > len(HEADER)), default=0.0)


def search(place: Place, wanted: Search) -> Iterator[tuple[Record, str]]:
    """The records that fit, in order, each with the piece of its text that was found. Holds one text at a time.

    Raises:
        InputError: the journals were removed, and the table of the round's trajectories does not tell.
    """
    found = journal.by_identity(journal.listed_in(place.folder / "journals"))
    if not found:
        rows = filter(wanted.matches, _in_table(place, wanted))
        yield from ((record, "") for record in sorted(rows, key=SORTS[wanted.sort]))
        return
    fitting = (candidates for candidates in found if wanted.matches(candidates[0].record))
    for candidates in sorted(fitting, key=lambda each: SORTS[wanted.sort](each[0].record)):
        if wanted.text is None:
            yield candidates[0].record, ""
        elif piece := _piece(candidates, wanted.text):
            yield candidates[0].record, piece


def _piece(candidates: list[Entry], pattern: re.Pattern[str]) -> str:
    """What matches in the first of these entries whose text is sound, and a little beside it; empty: nothing does."""
    episode = next(filter(None, map(journal.text, candidates)), None)
    for text in _texts(episode) if episode else ():
        if match := pattern.search(text):
            begin, end = max(0, match.start() - BESIDE), match.end() + BESIDE
            return " ".join(text[begin:end].split()) or text[begin:end]
    return ""


def _texts(episode: Episode) -> Iterator[str]:
    """The answer, and each turn with what it called."""
    yield episode.answer or ""
    for turn in episode.turns:
        yield turn.text
        if turn.arguments is not None:
            yield f"{turn.tool} {turn.arguments}"


def _in_table(place: Place, wanted: Search) -> Iterator[Record]:
    """The records of a round whose journals were removed, without what its trajectories do not tell."""
    path = place.folder / "trajectories.h5"
    if not path.exists():
        return
    if wanted.text or wanted.tool_error:
        raise InputError(f"{place.folder} has no journals; {path.name} holds no turns to search, and no tool calls")
    rows, lengths = file.read_table(path)
    for row, tokens in zip(rows, lengths, strict=True):
        yield Record(
            round=int(place.name),
            task_id=row["task_id"].decode(),
            attempt=int(row["attempt"]),
            level=int(row["level"]),
            reward=float(row["reward"]),
            status=row["status"].decode(),
            policy_version=int(row["policy_version"]),
            seed=int(row["seed"]),
            seconds={phase: float(row[f"seconds_{phase}"]) for phase in PHASES},
            turns=int(row["turns"]),
            tools={},
            has_answer=row["status"] == b"answered",
            tokens=int(tokens),
            spans=[],
        )
