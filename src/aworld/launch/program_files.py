"""What an agent program consisted of when its run began. A run keeps no copy: a virtual environment is large."""

import json
from hashlib import sha256
from pathlib import Path

from aworld.config import AgentProgram
from aworld.publish import publish_json

FILE = "program.json"  # in the folder of the user's own files: the fingerprint of each path
CACHE = "__pycache__"  # Python writes it as it runs


def keep(program: AgentProgram, own: Path) -> list[str]:
    """Note the fingerprint of each file and folder of the program, once.

    Returns:
        A line for each that changed since.
    """
    if not program.command:
        return []
    there = {str(Path(path).absolute()): fingerprint(Path(path)) for path in (*program.folders, program.image) if path}
    before: dict[str, str] = json.loads((own / FILE).read_text()) if (own / FILE).is_file() else {}
    if new := {path: found for path, found in there.items() if path not in before}:
        publish_json(own / FILE, before | new)
    return [
        f"agent.program: {path} changed since the run began, and the run keeps no copy: further episodes are played "
        "by the program as it is now; to keep them apart, begin another run with name=…"
        for path, found in there.items()
        if before.get(path, found) != found
    ]


def fingerprint(path: Path) -> str:
    """Of a file or folder: the SHA-256 of the names, the sizes and the times of the last change of all its files."""
    files = sorted(one for one in path.rglob("*") if CACHE not in one.parts) if path.is_dir() else [path]
    states = [(one, one.stat()) for one in files if one.is_file()]
    lines = [f"{one.relative_to(path)} {state.st_size} {state.st_mtime_ns}\n" for one, state in states]
    return sha256("".join(lines).encode()).hexdigest()
