"""Attempts to get out of a sandbox, made from inside it through the same pool and tools as an episode's.

Each is bounded, so that it harms nothing where it succeeds: `aworld doctor` makes them on every node it looks at.
"""

import asyncio
import os
import socket
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from aworld import config as schema
from aworld.agents.protocols import Environment, Observation
from aworld.environments.bait import Bait, bait_in
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox
from aworld.errors import InfrastructureError

FILES, NETWORK, PROCESSES = "files of this user", "network", "other processes of this user"  # as in Sandbox.gaps
SMALL: dict[str, Any] = {"memory_mb": 640, "scratch_mb": 16, "processes": 48}  # the bombs ask for twice as much
CALL_SECONDS = 60.0  # long, so that an attempt is made on a busy node as well
HOLD = 20  # seconds that bombs keep what they got; the watchdog comes twice a second, and late on a busy node
KEPT = "kept it all"
SERVER = "os.getppid()"  # code runs in a copy of the tool server
TOO_LATE = ("ran longer than", "no answer within")  # as the tools say it
NOBODY = 65534


@dataclass(frozen=True)
class Attempt:
    """One attempt and its outcome.

    Attributes:
        detail: the last line that the tool answered.
        gap: the entry of `Sandbox.gaps` that lets it happen; empty where nothing may.
    """

    name: str
    blocked: bool
    detail: str
    gap: str = ""


async def try_all(sandbox: Sandbox, limits: schema.Environment, runs: Path) -> list[Attempt]:
    """Make every attempt; takes about half a minute.

    Args:
        runs: existing folder where run directories are; some bait is laid there meanwhile.

    Raises:
        InfrastructureError: one could not be made, as the node is too busy or nothing starts there.
    """
    alone: dict[str, Any] = {"servers": ["python"], "mcp": {}, "web": [], "web_cache": "", "tool_seconds": {}}
    config = replace(limits, slots=2, reuse="reset", call_seconds=CALL_SECONDS, **alone, **SMALL)
    with tempfile.TemporaryDirectory(prefix=".bait-", dir=runs.resolve()) as folder, bait_in(Path(folder)) as bait:
        async with EnvironmentPool(config, sandbox, None, bait.folder) as pool:
            return [
                *[await _read(pool, bait, name, gap, code) for name, gap, code in _secrets(bait)],
                await _read_another_episode(pool, bait),
                *[await _reach(pool, bait, name, code) for name, code in _addresses(bait)],
                *[await _grab(pool, name, code) for name, code in _bombs()],
                await _leave_an_orphan(pool, bait),
                await _link_out(pool, bait),
                await _flood(pool, config),
                await _harm_a_process(pool, bait),
                await _gain_privileges(pool, bait),
            ]


async def _run(pool: EnvironmentPool, code: str, files: tuple[Path, ...] = ()) -> Observation:
    async with pool.episode(files) as environment:
        return await _call(environment, code)


async def _call(environment: Environment, code: str) -> Observation:
    answer = await environment.call("python", {"code": code})
    if any(words in answer.text for words in TOO_LATE):  # which says nothing of what is blocked
        raise InfrastructureError(f"an attempt to escape was not made: {_said(answer)}; the node is too busy")
    return answer


def _said(answer: Observation) -> str:
    return (answer.text.splitlines() or [""])[-1][:160]


def _secrets(bait: Bait) -> list[tuple[str, str, str]]:
    read_environments = """
import glob
for path in glob.glob("/proc/[0-9]*/environ"):
    try: print(*(x for x in open(path).read().split("\\0") if x.startswith("SECRET=")))
    except OSError: pass
"""
    return [
        ("read $HOME", FILES, f"print(open({str(bait.home)!r}).read())"),
        ("read the answers", FILES, f"print(open({str(bait.answers)!r}).read())"),
        (
            "list the run directory",
            FILES,
            f"import os; print(*(name[::-1] for name in os.listdir({str(bait.answers.parent)!r})))",
        ),
        ("read a secret in the environment", PROCESSES, read_environments),
    ]


async def _read(pool: EnvironmentPool, bait: Bait, name: str, gap: str, code: str) -> Attempt:
    answer = await _run(pool, code)
    return Attempt(name, bait.secret not in answer.text, _said(answer), gap)


async def _read_another_episode(pool: EnvironmentPool, bait: Bait) -> Attempt:
    async with pool.episode() as one, pool.episode() as other:
        await _call(one, f"open('mine', 'w').write({bait.secret!r})")
        path = next(bait.folder.glob("*/slot-*/mine"))
        answer = await _call(other, f"print(open({str(path)!r}).read())")
    return Attempt("read another episode's scratch", bait.secret not in answer.text, _said(answer), FILES)


def _addresses(bait: Bait) -> list[tuple[str, str]]:
    own = [a.address for names in psutil.net_if_addrs().values() for a in names if a.family == socket.AF_INET]
    others = [address for address in own if not address.startswith("127.")]
    connect = """
import socket
for address in {}:
    try: socket.create_connection(address, timeout=3); print("reached", address)
    except OSError as reason: print(reason)
"""
    ask = f"""
import socket
try: print("reached", socket.getaddrinfo("example.com", 80))
except OSError as reason: print(reason)
for address in {["127.0.0.1", *others]!r}:
    try: socket.socket(type=socket.SOCK_DGRAM).sendto(b"name?", (address, {bait.port}))
    except OSError as reason: print(reason)
"""
    remote = [(address, bait.port) for address in others] + [("1.1.1.1", 443)]
    return [
        ("reach 127.0.0.1", connect.format([("127.0.0.1", bait.port)])),
        ("ask a name server", ask),
        ("reach another host", connect.format(remote)),
    ]


async def _reach(pool: EnvironmentPool, bait: Bait, name: str, code: str) -> Attempt:
    answer = await _run(pool, code)
    was_reached = bait.was_reached()
    return Attempt(name, not was_reached and "reached" not in answer.text, _said(answer), NETWORK)


def _bombs() -> list[tuple[str, str]]:
    hold = f"import time; time.sleep({HOLD}); print({KEPT!r})"
    processes, memory, files = 2 * SMALL["processes"], SMALL["memory_mb"] // 4, 2 * SMALL["scratch_mb"]
    fork = "import os, time\ndef child():\n    if os.fork() == 0:\n        {}time.sleep({}); os._exit(0)\n"
    return [
        ("fork bomb", f"{fork.format('', HOLD)}for _ in range({processes}): child()\n{hold}"),
        ("memory bomb", f"{fork.format(f'x = bytearray({memory} << 20); ', HOLD)}for _ in range(8): child()\n{hold}"),
        ("fill the disk", f"for n in range({files}): open(f'{{n}}', 'wb').write(bytes(1 << 20))\n{hold}"),
    ]


async def _grab(pool: EnvironmentPool, name: str, code: str) -> Attempt:
    answer = await _run(pool, code)
    return Attempt(name, KEPT not in answer.text, _said(answer))


async def _leave_an_orphan(pool: EnvironmentPool, bait: Bait) -> Attempt:
    """Once behind a call, and once behind a server that is killed meanwhile."""
    mark = f"orphan-{bait.secret}"
    code = f"""
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(90)", {mark!r}])
    os._exit(0)
time.sleep(0.3)
"""
    async with pool.episode() as environment:
        await environment.call("python", {"code": code})
        await environment.call("python", {"code": code + f"os.kill({SERVER}, signal.SIGKILL); time.sleep(1)"})
    for _ in range(100):
        await asyncio.sleep(0.2)
        alive = [p.pid for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or [])]
        if not alive:
            return Attempt("outlive the episode by setsid", True, "gone with the episode")
    return Attempt("outlive the episode by setsid", False, f"process {alive[0]} lives")


async def _link_out(pool: EnvironmentPool, bait: Bait) -> Attempt:
    """Emptying the scratch, and putting a file into it, must not go through a link that the code left there."""
    attachment = bait.folder / "attachment.txt"
    attachment.write_text("for the task")
    code = f"""
import os
os.symlink({str(bait.answers)!r}, "attachment.txt")
os.symlink({str(bait.answers.parent)!r}, "folder")
os.mkdir("shut"); os.symlink({str(bait.answers.parent)!r}, "shut/folder"); os.chmod("shut", 0)
"""
    for _ in range(2):  # both slots
        await _run(pool, code)
    for _ in range(2):
        await _run(pool, "1", (attachment,))
    blocked = bait.answers.exists() and bait.answers.read_text() == bait.secret
    return Attempt("have files removed or written through a link", blocked, "the file it led to is looked at")


async def _flood(pool: EnvironmentPool, config: schema.Environment) -> Attempt:
    """1 GB of output, and 1 GB down the server's own pipe."""
    before = psutil.Process().memory_info().rss
    print_it = """
import sys
for _ in range(1024): sys.stdout.buffer.write(bytes(1 << 20))
"""
    down_the_pipe = (
        f"import glob, os\nserver = {SERVER}"
        + """
for path in sorted(glob.glob(f"/proc/{server}/fd/*"), reverse=True):
    if os.readlink(path).startswith("pipe:"):
        with open(path, "wb", 0) as out:
            for _ in range(1024): out.write(bytes(1 << 20))
"""
    )
    answers = [await _run(pool, code) for code in (print_it, down_the_pipe)]
    grown = psutil.Process().memory_info().rss - before
    blocked = grown < 256 << 20 and all(a.is_error and len(a.text) < config.result_chars + 200 for a in answers)
    return Attempt("1 GB of output", blocked, _said(answers[-1]))


async def _harm_a_process(pool: EnvironmentPool, bait: Bait) -> Attempt:
    code = f"""
import ctypes, os
attach = 16  # PTRACE_ATTACH
print("traced" if ctypes.CDLL(None).ptrace(attach, {bait.victim.pid}, 0, 0) == 0 else "not traced")
os.kill({bait.victim.pid}, 9)
"""
    answer = await _run(pool, code)
    await asyncio.sleep(0.2)
    blocked = bait.victim.poll() is None and "not traced" in answer.text
    return Attempt("trace or kill another process", blocked, _said(answer), PROCESSES)


async def _gain_privileges(pool: EnvironmentPool, bait: Bait) -> Attempt:
    """NoNewPrivs is the kernel's promise that no setuid program gives any; root makes one, and it is run as well."""
    code = """
import ctypes, os
print(next(line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")).split()[1])
print("mounted" if ctypes.CDLL(None).mount(b"none", b"/", b"tmpfs", 0, None) == 0 else "no mount")
try: os.setuid(os.getuid() + 1); print("another user")
except OSError: pass
import subprocess
if int(subprocess.run(["./id", "-u"], capture_output=True).stdout) != os.geteuid(): print("another user")
"""
    async with pool.episode() as environment:
        await _call(environment, "import shutil; shutil.copy(shutil.which('id'), 'id')")
        for program in bait.folder.glob("*/slot-*/id"):
            if os.geteuid() == 0:
                os.chown(program, NOBODY, -1)
                program.chmod(0o4755)
        answer = await _call(environment, code)
    blocked = answer.text.startswith("1\nno mount") and "another user" not in answer.text
    return Attempt("gain privileges by setuid or mount", blocked, _said(answer))
