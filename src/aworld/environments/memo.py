"""The tools that earlier workers have seen in the sandbox: a worker's first turn need not wait for one."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.publish import publish_json


@dataclass(frozen=True)
class ToolsMemo:
    """Specs of tools in a file: those of one choice of servers.

    Attributes:
        folder: has a file per choice of servers.
    """

    folder: Path
    config: schema.Environment

    @property
    def path(self) -> Path:
        servers = [self.config.servers, {name: asdict(server) for name, server in self.config.mcp.items()}]
        return self.folder / f"{hashlib.sha256(json.dumps(servers).encode()).hexdigest()[:16]}.json"

    def read(self) -> list[dict[str, Any]] | None:
        """The specs, as a worker has seen them last; None: none has."""
        try:
            return list(json.loads(self.path.read_text()))
        except FileNotFoundError:
            return None

    def write(self, tools: list[dict[str, Any]]) -> None:
        self.folder.mkdir(exist_ok=True)
        publish_json(self.path, tools)
