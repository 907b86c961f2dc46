"""The episodes of a round as flat ragged arrays: what is gathered, stored and trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from aworld.errors import InfrastructureError
from aworld.trajectories.episode import Episode

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


@dataclass(frozen=True)
class Trajectories:
    """The episodes of one round, ordered by (task_id, attempt).

    Attributes:
        round: number of the round that they were played in.
        tokens: int32 [N], the token ids of all episodes end to end.
        mask: uint8 [N], 1 where the policy sampled the token.
        logprobs: float32 [N], nats, 0 where mask is 0.
        offsets: int64 [E + 1]; episode e is tokens[offsets[e] : offsets[e + 1]].
        episodes: structured [E], the columns of COLUMNS. Episodes of one task_id are a group.
        contexts: structured [C], the columns of CONTEXT: the agent of each context, and its start counted from its
            episode's first token. None: each episode is one context.
        context_offsets: int64 [E + 1]; episode e has contexts[context_offsets[e] : context_offsets[e + 1]].
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

    def __len__(self) -> int:
        return len(self.episodes)

    def spans(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The begin and end of each context in `tokens`, and the index of its episode: int64 [C] each."""
        episode = np.repeat(np.arange(len(self)), np.diff(self.context_offsets))
        begins = self.offsets[episode] + self.contexts["start"]
        return begins, np.append(begins[1:], self.offsets[-1]), episode


def from_episodes(round_: int, episodes: Sequence[Episode]) -> Trajectories:
    """The arrays of episodes, in the given order.

    Raises:
        InfrastructureError: the token_ids, mask and logprobs of an episode differ in length; its contexts are not in
            order or exceed them; or its task_id or the name of an agent is too long.
    """
    longest = COLUMNS["task_id"].itemsize
    for e in episodes:
        if not len(e.token_ids) == len(e.mask) == len(e.logprobs):
            raise InfrastructureError(f"episode {e.identity}: token_ids, mask and logprobs differ in length")
        if len(e.task_id.encode()) > longest:
            raise InfrastructureError(f"episode {e.identity}: task_id is longer than {longest} bytes")
        starts = [context.start for context in e.contexts]
        if starts[:1] != [0] or starts != sorted(starts) or starts[-1] > len(e.token_ids):
            raise InfrastructureError(f"episode {e.identity}: its contexts start at {starts}")
        if any(len(context.agent.encode()) > CONTEXT["agent"].itemsize for context in e.contexts):
            raise InfrastructureError(f"episode {e.identity}: an agent's name is longer than 32 bytes")
    return Trajectories(
        round=round_,
        tokens=_flat([e.token_ids for e in episodes], np.int32),
        mask=_flat([e.mask for e in episodes], np.uint8),
        logprobs=_flat([e.logprobs for e in episodes], np.float32),
        offsets=offsets_of(np.array([len(e.token_ids) for e in episodes], np.int64)),
        episodes=np.array([_row(e) for e in episodes], COLUMNS),
        contexts=np.array([(c.agent.encode(), c.start) for e in episodes for c in e.contexts], CONTEXT),
        context_offsets=offsets_of(np.array([len(e.contexts) for e in episodes], np.int64)),
    )


def _row(e: Episode) -> tuple:
    turns = sum(turn.role == "assistant" for turn in e.turns)
    seconds = [e.seconds.get(phase, 0.0) for phase in PHASES]
    row = (e.task_id.encode(), e.attempt, e.level, e.reward, e.status.encode(), e.policy_version, e.seed, turns)
    return (*row, *seconds)


def _flat(rows: Sequence[Sequence | np.ndarray], dtype: np.typing.DTypeLike) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(row, dtype) for row in rows)])


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """The begin of each of E rows in a flat array, and the end of the last, int64 [E + 1], from their lengths [E]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def select(trajectories: Trajectories, rows: Sequence[int] | np.ndarray) -> Trajectories:
    """The episodes at these indices, in this order."""
    t = trajectories
    spans = [slice(t.offsets[row], t.offsets[row + 1]) for row in rows]
    contexts = [slice(t.context_offsets[row], t.context_offsets[row + 1]) for row in rows]
    return Trajectories(
        round=t.round,
        tokens=_flat([t.tokens[span] for span in spans], np.int32),
        mask=_flat([t.mask[span] for span in spans], np.uint8),
        logprobs=_flat([t.logprobs[span] for span in spans], np.float32),
        offsets=offsets_of(np.diff(t.offsets)[np.asarray(rows, np.int64)]),
        episodes=t.episodes[np.asarray(rows, np.int64)],
        contexts=np.concatenate([np.zeros(0, CONTEXT), *(t.contexts[span] for span in contexts)]),
        context_offsets=offsets_of(np.diff(t.context_offsets)[np.asarray(rows, np.int64)]),
    )


def join(round_: int, parts: Sequence[Trajectories]) -> Trajectories:
    """The episodes of several parts, one part after another."""
    return Trajectories(
        round=round_,
        tokens=_flat([p.tokens for p in parts], np.int32),
        mask=_flat([p.mask for p in parts], np.uint8),
        logprobs=_flat([p.logprobs for p in parts], np.float32),
        offsets=offsets_of(_flat([np.diff(p.offsets) for p in parts], np.int64)),
        episodes=np.concatenate([np.zeros(0, COLUMNS), *(p.episodes for p in parts)]),
        contexts=np.concatenate([np.zeros(0, CONTEXT), *(p.contexts for p in parts)]),
        context_offsets=offsets_of(_flat([np.diff(p.context_offsets) for p in parts], np.int64)),
    )
