"""Ports of our own: beside the ephemeral ones, free, and no two servers' the same."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from aworld.errors import InfrastructureError
from aworld.ports import BLOCK, EPHEMERAL, for_rendezvous, is_free, own_block, own_range

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("ephemeral", "found"),
    [
        ("32768\t60999\n", range(10000, 32768)),  # Linux's default
        ("15000 60999", range(10000, 15000)),
        ("1024 40000", range(40001, 65536)),
        ("20000 30000", range(30001, 65536)),
    ],
)
def test_our_ports_lie_outside_the_ephemeral_range(ephemeral: str, found: range) -> None:
    assert own_range(ephemeral) == found
    ports = {for_rendezvous(job, 0, ephemeral) for job in range(1000)}
    assert ports <= set(found) and len(ports) > 300
    assert for_rendezvous(7, 0, ephemeral) != for_rendezvous(7, 1, ephemeral)


def test_a_node_whose_ephemeral_range_takes_all_ports_is_named() -> None:
    with pytest.raises(InfrastructureError, match=r"1024 to 65535, leave none .*ip_local_port_range"):
        own_range("1024 65535")


def test_servers_of_one_node_have_blocks_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of this process, of another one, and beside a port that a stranger holds; free again once their owner is dead."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = "from aworld.ports import own_block\nwith own_block() as port: print(port, flush=True); input()"
    low, high = map(int, EPHEMERAL.read_text().split())
    with ExitStack() as stack:
        first = stack.enter_context(own_block())
        other = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        stack.callback(other.kill)
        assert other.stdout
        second = int(other.stdout.readline())
        stranger = stack.enter_context(socket.socket())
        stranger.bind(("127.0.0.1", second + BLOCK + 5))
        stranger.listen()
        assert not is_free(second + BLOCK + 5)
        third = stack.enter_context(own_block())
        blocks = [set(range(start, start + BLOCK)) for start in (first, second, third)]
        assert len(set.union(*blocks)) == 3 * BLOCK and second + BLOCK + 5 not in blocks[2]
        assert not any(low <= port <= high for port in set.union(*blocks))
        rendezvous = {for_rendezvous(job, 0, EPHEMERAL.read_text()) for job in range(5000)}
        assert not rendezvous & set.union(*blocks)
        other.kill()
        other.wait()
        assert stack.enter_context(own_block()) == second
