"""The conversations of an attempt, context by context: from its tokens where there are any, else from its turns."""

import json
from dataclasses import dataclass

import numpy as np

from aworld.export.conversation import Message, Reader
from aworld.trajectories.episode import Episode, Turn
from aworld.trajectories.frames import Arrays


@dataclass(frozen=True)
class Spoken:
    """A turn of the model in a conversation.

    Attributes:
        at: index of its message.
        prompt, sampled: numbers of tokens before it and in it; None: unknown.
        is_cut: whether it ended at a limit.
    """

    at: int
    prompt: int | None = None
    sampled: int | None = None
    is_cut: bool = False


@dataclass(frozen=True)
class Transcript:
    """A context.

    Attributes:
        turns: as recorded, in the order in which they began.
        spoken: the turns of the model that left text, in their order.
    """

    agent: str
    asked_by: int | None
    messages: list[Message]
    spoken: list[Spoken]
    turns: list[Turn]

    def call_ids(self) -> dict[int, str]:
        """The id of the call that each tool turn made, by the turn's index. Calls of one turn may end in any order."""
        calls = [call for message in self.messages for call in message.get("tool_calls", ())]
        made = [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
        found = {}
        for number, turn in enumerate(self.turns):
            if turn.role == "tool":
                same = next((one for one in made if one[1:] == (turn.tool, turn.arguments)), None)
                found[number] = same[0] if same else f"turn_{number}"
                if same:
                    made.remove(same)
        return found


def transcripts(episode: Episode, arrays: Arrays | None, reader: Reader | None) -> list[Transcript]:
    """The transcript of each context of an episode.

    Args:
        arrays: its tokens, mask and log-probabilities; None: they are damaged.
        reader: of the policy's tokens; None: there are none.
    """
    of_context: list[list[Turn]] = [[] for _ in episode.contexts]
    for turn in sorted(episode.turns, key=lambda turn: turn.began):
        of_context[turn.context].append(turn)
    starts = [context.start for context in episode.contexts]
    found = []
    for number, (context, turns) in enumerate(zip(episode.contexts, of_context, strict=True)):
        messages: list[Message] = []
        spoken: list[Spoken] = []
        if arrays is not None and reader is not None:
            own = slice(starts[number], starts[number + 1] if number + 1 < len(starts) else None)
            messages, spoken = _read(arrays[0][own], arrays[1][own], reader)
        if not messages:
            messages, spoken = _told(turns)
        found.append(Transcript(context.agent, context.asked_by, messages, spoken, turns))
    return found


def _read(ids: np.ndarray, mask: np.ndarray, reader: Reader) -> tuple[list[Message], list[Spoken]]:
    """From the tokens of a context; nothing where they lack the prompt, as an endpoint's do."""
    messages = reader.read(ids, mask).messages
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    begins, ends = edges[::2].tolist(), edges[1::2].tolist()
    assistants = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    spoken = [
        Spoken(at, begin, end - begin, int(ids[end - 1]) not in reader.chat.ends)
        for at, begin, end in zip(assistants[-len(begins) :] if begins else [], begins, ends, strict=False)
    ]
    return messages, spoken


def _told(turns: list[Turn]) -> tuple[list[Message], list[Spoken]]:
    """From what people read: prompts, replies with their calls, results."""
    messages: list[Message] = []
    spoken: list[Spoken] = []
    for number, turn in enumerate(turns):
        if turn.role == "prompt":
            messages.append({"role": "user", "content": turn.text})
        elif turn.role == "assistant" and not turn.is_error:
            spoken.append(Spoken(len(messages)))
            messages.append({"role": "assistant", "content": turn.text})
        elif turn.role == "tool":
            messages.append({"role": "tool", "tool_call_id": f"turn_{number}", "content": turn.text})
    return messages, spoken
