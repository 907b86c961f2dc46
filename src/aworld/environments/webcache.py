"""Answers of the web, kept in a folder that many workers share: a run repeats exactly, and costs once.

    FOLDER/WORKER.jsonl      a line per answer, by the worker that asked
    FOLDER/files/SHA256      files that a tool fetched

A call is known by its tool and arguments; one about a file of the episode also by the file's content; one to a tool
with a state, such as a browser, also by the episode's calls before it. Of several answers the one kept first counts.
"""

import asyncio
import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aworld.errors import InputError
from aworld.publish import append_json, publishing

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
        mode: a kept answer is always used. Where there is none, record: ask and keep the answer | replay: ask |
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
        self._answers: dict[str, tuple[float, Answer]] = {}  # with the time it was kept at
        self._read: dict[Path, int] = {}  # so many bytes of each
        self._writing = threading.Lock()
        self._looking = threading.Lock()  # episodes ask from threads of their own
        self._asked: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def asking(self, key: str) -> AsyncIterator[None]:
        """Let one episode ask; others that ask the same meanwhile wait, and then find its answer."""
        if first := self._asked.get(key):
            await first.wait()
            yield
            return
        self._asked[key] = done = asyncio.Event()
        try:
            yield
        finally:
            del self._asked[key]
            done.set()

    def get(self, key: str) -> Answer | None:
        """The answer to a call, also one that another worker has kept since."""
        with self._looking:
            if key not in self._answers:
                self._look()
            return self._answers[key][1] if key in self._answers else None

    def put(self, key: str, answer: Answer, tool: str, arguments: Mapping[str, Any]) -> Answer:
        """Keep an answer, unless there is one; returns the one that counts."""
        if self.get(key) is None:
            row = {"key": key, "at": time.time(), "tool": tool, "arguments": arguments, **asdict(answer)}
            append_json(self._own, row)
        return self.get(key) or answer

    def put_file(self, path: Path) -> str | None:
        """Keep a file of an episode's folder; None where it is no plain file, or too large."""
        with suppress(OSError), open(path, "rb", opener=_plain) as source:
            if os.fstat(source.fileno()).st_size > FILE_BYTES:
                return None
            digest = hashlib.file_digest(source, "sha256").hexdigest()
            target = self.folder / "files" / digest
            with self._writing:  # episodes may have fetched the same
                if not target.exists():
                    source.seek(0)
                    with publishing(target) as temporary, open(temporary, "wb") as copy:
                        shutil.copyfileobj(source, copy)
            return digest
        return None

    def file(self, digest: str) -> Path:
        return self.folder / "files" / digest

    def _look(self) -> None:
        """Read what has been written since the last time; a line that is not whole yet is for the next."""
        for path in sorted(self.folder.glob("*.jsonl")):
            known = self._read.get(path, 0)
            if path.stat().st_size == known:
                continue
            with open(path, "rb") as file:
                file.seek(known)
                whole = file.read().rpartition(b"\n")[0]
            for line in whole.split(b"\n"):
                with suppress(ValueError, KeyError, TypeError):  # torn where the file system does not append
                    row = json.loads(line)
                    files = tuple((name, digest) for name, digest in row["files"])
                    kept = (float(row.get("at", 0.0)), Answer(row["text"], row["is_error"], files))
                    if row["key"] not in self._answers or kept[0] < self._answers[row["key"]][0]:
                        self._answers[row["key"]] = kept
            self._read[path] = known + (len(whole) + 1 if whole else 0)


def _plain(path: str, flags: int) -> int:
    """Open a plain file, through no link. Raises OSError."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(opened).st_mode):
        return opened
    os.close(opened)
    raise OSError(f"{path} is no plain file")


def key_of(
    tool: str, arguments: Mapping[str, Any], before: Sequence[tuple[str, Mapping[str, Any]]] = (), content: str = ""
) -> str:
    """The name of a call, after those `before` that its answer depends on, about a file whose digest is `content`."""
    calls = [*((name, dict(given)) for name, given in before), (tool, dict(arguments)), *([content] if content else [])]
    return hashlib.sha256(
        json.dumps(calls, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()
