"""What the web answered, kept in a folder that many workers share: so that a run repeats exactly, and costs once.

    FOLDER/WORKER.jsonl      a line per answer, by the worker that asked
    FOLDER/files/SHA256      files that a tool fetched

A call is known by its tool and arguments; one about a file of the episode also by the file's content; one to a tool
with a state, such as a browser, also by the episode's calls before it. Of several answers the one kept first counts.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aworld.errors import InputError
from aworld.rundir import append_json, publishing, read_jsonl

RECORD, REPLAY, STRICT = "record", "replay", "strict"
MODES = (RECORD, REPLAY, STRICT)
FILE_BYTES = 200 << 20


@dataclass(frozen=True)
class Answer:
    """`files` are (name in the episode's folder, SHA-256)."""

    text: str
    is_error: bool
    files: tuple[tuple[str, str], ...] = ()


class WebCache:
    """One worker's view of the folder.

    Args:
        mode: what is kept is not asked again; of what is not, record: ask, and keep the answer | replay: ask |
            strict: an error.
        owner: no other process that writes has this name.

    Raises:
        InputError: no such mode, or nothing was recorded and the mode is strict.
    """

    def __init__(self, folder: Path, mode: str, owner: str):
        if mode not in MODES:
            raise InputError(f"environment.web_mode={mode}: no such mode; valid: {', '.join(MODES)}")
        if mode == STRICT and not any(folder.glob("*.jsonl")):
            raise InputError(f"environment.web_mode=strict, but nothing is recorded in {folder}; record it first")
        self.folder, self.mode, self._own = folder, mode, folder / f"{owner}.jsonl"
        self._answers: dict[str, Answer] = {}
        self._sizes: dict[Path, int] = {}

    def get(self, key: str) -> Answer | None:
        """The answer to a call, also one that another worker has kept since."""
        if key not in self._answers:
            self._look()
        return self._answers.get(key)

    def put(self, key: str, answer: Answer, tool: str, arguments: Mapping[str, Any]) -> None:
        """Keep an answer, unless there is one."""
        if self.get(key) is None:
            append_json(self._own, {"key": key, "tool": tool, "arguments": arguments, **asdict(answer)})

    def put_file(self, path: Path) -> str | None:
        """Keep a file of an episode's folder; None where it is no plain file, or too large."""
        with suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as source:
            if os.fstat(source.fileno()).st_size > FILE_BYTES:
                return None
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            target = self.folder / "files" / digest
            if not target.exists():
                source.seek(0)
                with publishing(target) as temporary, open(temporary, "wb") as copy:
                    shutil.copyfileobj(source, copy)
            return digest
        return None

    def file(self, digest: str) -> Path:
        return self.folder / "files" / digest

    def _look(self) -> None:
        for path in sorted(self.folder.glob("*.jsonl")):
            size = path.stat().st_size
            if self._sizes.get(path) == size:
                continue
            self._sizes[path] = size
            for row in read_jsonl(path):
                files = tuple((name, digest) for name, digest in row["files"])
                self._answers.setdefault(row["key"], Answer(row["text"], row["is_error"], files))


def key_of(
    tool: str, arguments: Mapping[str, Any], before: Sequence[tuple[str, Mapping[str, Any]]] = (), content: str = ""
) -> str:
    """The name of a call, after those `before` that its answer depends on, about a file whose digest is `content`."""
    calls = [*((name, dict(given)) for name, given in before), (tool, dict(arguments)), *([content] if content else [])]
    return hashlib.sha256(json.dumps(calls, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
