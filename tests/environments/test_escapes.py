"""Every attempt to get out, in every sandbox; what the plain fallback cannot stop is what it says it cannot."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from aworld import config as schema
from aworld.environments.escapes import try_all
from aworld.environments.sandbox import Sandbox

pytestmark = [pytest.mark.tools, pytest.mark.timeout(600)]
# what the fallback lets happen, by its gaps
OPEN = {
    "files of this user": {
        "read $HOME",
        "read the answers",
        "list the run directory",
        "read another episode's scratch",
    },
    "network": {"reach 127.0.0.1", "ask a name server", "reach another host"},
    "other processes of this user": {"read a secret in the environment", "trace or kill another process"},
}
CLOSED = {
    *("fork bomb", "memory bomb", "fill the disk", "outlive the episode by setsid", "1 GB of output"),
    *("have files removed or written through a link", "gain privileges by setuid or mount"),
}


def test_nothing_gets_out_but_what_the_gaps_say(sandbox: Sandbox, tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))  # a pool that several tests share
    own = {"own": schema.McpServer(command=["true"])}  # what else an environment has is left out
    limits = schema.Environment(mcp=own, web=["fetch"], web_cache=str(tmp_path / "none"), web_mode="strict")
    attempts = asyncio.run(try_all(sandbox, limits, tmp_path))
    went = {a.name: (a.blocked, a.detail) for a in attempts}
    assert set(went) == CLOSED.union(*OPEN.values())
    possible = set().union(*(names for gap, names in OPEN.items() if gap in sandbox.gaps))
    if os.geteuid() == 0:  # without its capabilities root may not look at a process that has them
        possible.discard("read a secret in the environment")
    assert {name for name, (blocked, _) in went.items() if not blocked} == possible, went
    assert {a.gap for a in attempts if not a.blocked} == {gap for gap in OPEN if gap in sandbox.gaps}
    assert set(psutil.Process().children(recursive=True)) <= others
    assert list(tmp_path.iterdir()) == []
