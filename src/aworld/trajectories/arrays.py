"""The episodes of a round as tables and flat ragged arrays: what is gathered, stored and trained on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import h5py
import numpy as np

from aworld.errors import InfrastructureError
from aworld.trajectories.episode import Episode
from aworld.trajectories.frames import Arrays, arrays_of
from aworld.trajectories.record import Record, facts_of, record_of

PHASES = ("wait", "generate", "tools", "stalled", "total")
COLUMNS = np.dtype(
    [
        ("task_id", h5py.string_dtype("utf-8", 128)),
        ("attempt", "<i4"),
        ("level", "<i4"),
        ("reward", "<f4"),
        ("status", h5py.string_dtype("utf-8", 16)),
        ("policy_version", "<i4"),
        ("seed", "<i8"),
        ("turns", "<i4"),
        *((f"seconds_{phase}", "<f4") for phase in PHASES),
    ]
)
CONTEXT = np.dtype([("agent", h5py.string_dtype("utf-8", 32)), ("start", "<i8")])
SEQUENCE = np.dtype([("inputs", "<i8"), ("sampled", "<i8"), ("crc32", "<u4")])


def lost(table: np.ndarray, stalled_share: float) -> np.ndarray:
    """Whether each episode was lost to the machine, bool [E].

    An episode that ran out of time is lost if more than `stalled_share` of its time was lost to the engine or a tool.
    Else the policy spent the time.

    Args:
        table: the `episodes` of trajectories, [E].
    """
    stalled = table["seconds_stalled"] > stalled_share * table["seconds_total"]
    return (table["status"] == b"infra_error") | ((table["status"] == b"timeout") & stalled)


class TrajectorySource(ABC):
    """The episodes of one round, ordered by (task_id, attempt): their tables, and a way to the tokens of each context.

    Attributes:
        round: number of the round that they were played in.
        offsets: int64 [E + 1]; episode e has the tokens from offsets[e] to offsets[e + 1], of N in all.
        episodes: structured [E], the columns of COLUMNS. Episodes of one task_id are a group.
        contexts: structured [C], the columns of CONTEXT: the agent of each context, and its start counted from its
            episode's first token.
        context_offsets: int64 [E + 1]; episode e has contexts[context_offsets[e] : context_offsets[e + 1]].
    """

    round: int
    offsets: np.ndarray
    episodes: np.ndarray
    contexts: np.ndarray
    context_offsets: np.ndarray

    @property
    @abstractmethod
    def sequences(self) -> np.ndarray:
        """Structured [C], the columns of SEQUENCE: lengths and checksum of each context, known before it is read.

        `inputs` is the number of tokens before its last sampled one, `sampled` that of sampled tokens with a
        predecessor, and `crc32` the checksum of its tokens, its mask and its log-probabilities.
        """

    @abstractmethod
    def read(self, contexts: Sequence[int] | np.ndarray) -> list[Arrays]:
        """Token ids (int32), mask (uint8) and log-probabilities (float32, nats) of each of these contexts, [n] each.

        Raises:
            InfrastructureError: they cannot be read, or are damaged.
        """

    @abstractmethod
    def verify(self, contexts: Sequence[int] | np.ndarray) -> None:
        """Check the tokens of these contexts against their checksums, one context at a time.

        Raises:
            InfrastructureError: they cannot be read, or are damaged.
        """

    @abstractmethod
    def select(self, rows: Sequence[int] | np.ndarray) -> "TrajectorySource":
        """The episodes at these indices, in this order."""

    def __len__(self) -> int:
        return len(self.episodes)

    def spans(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The begin and end of each context among the N tokens, and the index of its episode: int64 [C] each."""
        episode = np.repeat(np.arange(len(self)), np.diff(self.context_offsets))
        begins = self.offsets[episode] + self.contexts["start"]
        return begins, np.append(begins[1:], self.offsets[-1]), episode

    def contexts_of(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The indices of the contexts of the episodes at these indices: int64 [n]."""
        parts = [np.arange(*self.context_offsets[row : row + 2]) for row in rows]
        return np.concatenate([np.zeros(0, np.int64), *parts])


@dataclass(frozen=True)
class Trajectories(TrajectorySource):
    """The episodes of one round in memory.

    Attributes:
        tokens: int32 [N], the token ids of all episodes end to end.
        mask: uint8 [N], 1 where the policy sampled the token.
        logprobs: float32 [N], nats, 0 where mask is 0.
        contexts: None: each episode is one context.
    """

    round: int
    tokens: np.ndarray
    mask: np.ndarray
    logprobs: np.ndarray
    offsets: np.ndarray
    episodes: np.ndarray
    contexts: np.ndarray = None  # type: ignore[assignment]
    context_offsets: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.contexts is None:
            object.__setattr__(self, "contexts", np.array([(b"agent", 0)] * len(self), CONTEXT))
            object.__setattr__(self, "context_offsets", np.arange(len(self) + 1, dtype=np.int64))

    @cached_property
    def sequences(self) -> np.ndarray:
        facts = [facts_of(*own) for own in self.read(range(len(self.contexts)))]
        return np.array(facts, SEQUENCE)

    def read(self, contexts: Sequence[int] | np.ndarray) -> list[Arrays]:
        begins, ends, _ = self._spans
        spans = [slice(begins[number], ends[number]) for number in contexts]
        return [(self.tokens[own], self.mask[own], self.logprobs[own]) for own in spans]

    def verify(self, contexts: Sequence[int] | np.ndarray) -> None:
        """Nothing is left to check: a file is checked while it is read into memory."""

    def select(self, rows: Sequence[int] | np.ndarray) -> "Trajectories":
        spans = [slice(self.offsets[row], self.offsets[row + 1]) for row in rows]
        index = np.asarray(rows, np.int64)
        return Trajectories(
            round=self.round,
            tokens=_flat([self.tokens[span] for span in spans], np.int32),
            mask=_flat([self.mask[span] for span in spans], np.uint8),
            logprobs=_flat([self.logprobs[span] for span in spans], np.float32),
            offsets=offsets_of(np.diff(self.offsets)[index]),
            episodes=self.episodes[index],
            contexts=self.contexts[self.contexts_of(rows)],
            context_offsets=offsets_of(np.diff(self.context_offsets)[index]),
        )

    @cached_property
    def _spans(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.spans()


def from_episodes(round_: int, episodes: Sequence[Episode]) -> Trajectories:
    """The arrays of episodes, in the given order.

    Raises:
        InfrastructureError: the token_ids, mask and logprobs of an episode differ in length; its contexts are not in
            order or exceed them; or its task_id or the name of an agent is too long.
    """
    for e in episodes:
        if not len(e.token_ids) == len(e.mask) == len(e.logprobs):
            raise InfrastructureError(f"episode {e.identity}: token_ids, mask and logprobs differ in length")
        starts = [context.start for context in e.contexts]
        if starts[:1] != [0] or starts != sorted(starts) or starts[-1] > len(e.token_ids):
            raise InfrastructureError(f"episode {e.identity}: its contexts start at {starts}")
    arrays = [arrays_of(e) for e in episodes]
    found = tables([record_of(e, *own) for e, own in zip(episodes, arrays, strict=True)])
    del found["sequences"]  # made of the arrays where they are asked for
    tokens, mask, logprobs = (
        _flat([own[i] for own in arrays], dtype) for i, dtype in enumerate((np.int32, np.uint8, np.float32))
    )
    return Trajectories(round_, tokens, mask, logprobs, **found)


def tables(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """The tables of a TrajectorySource with the episodes of these records, in the given order.

    Raises:
        InfrastructureError: a task_id or the name of an agent is too long.
    """
    longest = COLUMNS["task_id"].itemsize
    for r in records:
        if len(r.task_id.encode()) > longest:
            raise InfrastructureError(f"episode {r.identity}: task_id is longer than {longest} bytes")
        if any(len(span.agent.encode()) > CONTEXT["agent"].itemsize for span in r.spans):
            raise InfrastructureError(f"episode {r.identity}: an agent's name is longer than 32 bytes")
    spans = [span for r in records for span in r.spans]
    return {
        "offsets": offsets_of(np.array([r.tokens for r in records], np.int64)),
        "episodes": np.array([_row(r) for r in records], COLUMNS),
        "contexts": np.array([(span.agent.encode(), span.start) for span in spans], CONTEXT),
        "context_offsets": offsets_of(np.array([len(r.spans) for r in records], np.int64)),
        "sequences": np.array([(span.inputs, span.sampled, span.crc32) for span in spans], SEQUENCE),
    }


def _row(r: Record) -> tuple:
    seconds = [r.seconds.get(phase, 0.0) for phase in PHASES]
    row = (r.task_id.encode(), r.attempt, r.level, r.reward, r.status.encode(), r.policy_version, r.seed, r.turns)
    return (*row, *seconds)


def _flat(rows: Sequence[np.ndarray], dtype: np.typing.DTypeLike) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *rows])


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """The begin of each of E rows in a flat array, and the end of the last, int64 [E + 1], from their lengths [E]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
