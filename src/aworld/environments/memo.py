"""The tools that earlier workers have seen in the sandbox: a worker's first turn need not wait for one."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aworld import config as schema
from aworld.publish import publish_text


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
        """The specs, as a worker has seen them last; None: none has, or they cannot be read."""
        try:
            return list(json.loads(self.path.read_text()))
        except (OSError, ValueError):
            return None

    def write(self, tools: list[dict[str, Any]]) -> None:
        """Note the specs, in their order, which the prompt shows. Nothing is lost where the disk does not take them."""
        with suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            publish_text(self.path, json.dumps(tools))
