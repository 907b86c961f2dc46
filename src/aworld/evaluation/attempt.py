"""The attempts of an evaluation, as its figures need them. No token is read, and one text is held at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.trajectories import journal
from aworld.trajectories.episode import Episode
from aworld.trajectories.frames import TOKEN_BYTES, Entry
from aworld.trajectories.record import Record


@dataclass(frozen=True, kw_only=True)
class Attempt(Record):
    """The record of an episode, with the little of its text that figures need.

    Attributes:
        answer: the text of the final answer; None: there is none.
        sampled: the number of tokens that the policy sampled; an endpoint's own count where it gave one.
        entry: where the episode lies in its journal.
    """

    answer: str | None
    sampled: int
    entry: Entry

    @property
    def text_bytes(self) -> int:
        """The size of its text in the journal."""
        return self.entry.end - self.entry.body - TOKEN_BYTES * self.tokens

    def read(self) -> Episode:
        """The episode without its tokens.

        Raises:
            InfrastructureError: its text was damaged after it was read before.
        """
        if episode := journal.text(self.entry):
            return episode
        raise InfrastructureError(f"{self.entry.path} changed while it was read; run the same command again")


def attempts_in(folder: Path, task: str | None = None) -> list[Attempt]:
    """The attempts in the journals of a folder, one for each identity, ordered by identity. Holds one text at a time.

    Args:
        task: id of the one task whose attempts are wanted; None: all.
    """
    entries = [entry for entry in journal.listed_in(folder) if task in (None, entry.record.task_id)]
    return [attempt for candidates in journal.by_identity(entries) for attempt in first_sound(candidates)]


def first_sound(candidates: list[Entry]) -> Iterator[Attempt]:
    """The attempt of the first of these entries whose text is sound; nothing where none is."""
    for entry in candidates:
        if episode := journal.text(entry):
            in_all = sum(span.sampled for span in entry.record.spans)
            sampled = episode.sampling.get("completion_tokens", in_all)
            yield Attempt(**vars(entry.record), answer=episode.answer, sampled=sampled, entry=entry)
            return
