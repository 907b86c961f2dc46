"""TCP ports on this node that no other program takes by chance.

Linux gives a program that asks for any port one of the ephemeral range. Ports beside it are taken by those alone who
name them.
"""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aworld.errors import InfrastructureError
from aworld.locks import acquire
from aworld.nodelocal import private_folder

FIRST, LAST = 10000, 65535  # below 10000 lie the services of a site
BLOCK = 64  # ports of one vLLM: it takes a few for each of its processes
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def own_range(ephemeral: str) -> range:
    """The larger range of ports, from FIRST to LAST, that lies below the ephemeral one or above it.

    Args:
        ephemeral: what the file EPHEMERAL holds, such as "32768 60999".

    Raises:
        InfrastructureError: fewer than 16 blocks are left: the ephemeral range takes all.
    """
    low, high = map(int, ephemeral.split())
    found = max(range(FIRST, max(FIRST, low)), range(max(FIRST, high + 1), LAST + 1), key=len)
    if len(found) < 16 * BLOCK:
        raise InfrastructureError(
            f"the ephemeral ports of node {os.uname().nodename}, {low} to {high}, leave none for servers of our own; "
            "ask the site's administrators for a narrower net.ipv4.ip_local_port_range"
        )
    return found


def for_rendezvous(job: int, restart: int, ephemeral: str) -> int:
    """The port at which the ranks of a job meet, in the upper half of `own_range`; the same on each node of a site.

    Jobs with neighbouring numbers do not meet, and neither do two lives of one job.
    """
    ports = own_range(ephemeral)
    upper = ports[len(ports) // 2 :]
    return upper[(7 * job + restart) % len(upper)]


def is_free(port: int) -> bool:
    """Whether no program of this node listens at the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a dead program left is free
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


@contextmanager
def own_block() -> Iterator[int]:
    """The first of BLOCK ports that are free, and no other process of this user on this node has until the end.

    They lie in the lower half of `own_range`.

    Raises:
        InfrastructureError: there is none; or another user of this node made the folder of the locks.
    """
    ports = own_range(EPHEMERAL.read_text())
    lower = ports[: len(ports) // 2]
    try:
        folder = private_folder(Path(tempfile.gettempdir()) / f"aworld-ports-{os.getuid()}")
    except PermissionError as reason:
        raise InfrastructureError(f"{reason.filename} is to hold locks: {reason.strerror}; remove it") from None
    blocks = lower[: -BLOCK + 1 : BLOCK]
    # Jobs whose TMPDIR is their own do not see each other's locks: each begins elsewhere.
    at = 8 * int(os.environ.get("SLURM_JOB_ID", 0)) % len(blocks)
    for first in (*blocks[at:], *blocks[:at]):
        with open(folder / f"{first}.lock", "a") as lock:
            if acquire(lock, fcntl.LOCK_EX) != "held" and all(map(is_free, range(first, first + BLOCK))):
                yield first
                return
    raise InfrastructureError(
        f"no {BLOCK} free ports from {lower[0]} to {lower[-1]} on node {os.uname().nodename}; see: ss -ltn"
    )
