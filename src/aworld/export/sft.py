"""Conversations in OpenAI's shape, one context a line of JSON: for any trainer that renders a chat template."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from aworld.export.conversation import Reader
from aworld.export.rows import Row, Sampled, write_jsonl

FILE = "conversations.jsonl"


def export(folder: Path, contexts: Iterable[Sampled], reader: Reader) -> list[str]:
    """Write the file; returns what was written, in words. Text alone: token ids and log-probabilities are not in it."""
    rendered = 0

    def rows() -> Iterator[Row]:
        nonlocal rendered
        for one in contexts:
            conversation = reader.read(one.ids, one.mask)
            rendered += reader.is_rendered(conversation, one.ids, one.mask)
            yield {"messages": conversation.messages, "tools": conversation.tools, **one.identity}

    count = write_jsonl(folder / FILE, rows())
    return [f"{FILE}: {count} conversations, of which {rendered} render to the text of the tokens"] if count else []
