"""The libraries that the agent's code finds: the same in every sandbox."""

import asyncio
import socket
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import pytest

from aworld import config as schema
from aworld.environments.libraries import LIBRARIES
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox
from aworld.tools.python import RUN_CODE

PACKAGES = Path(__file__).parents[2] / "containers" / "environment.txt"
USUAL = "pandas scipy.stats sympy matplotlib.pyplot networkx lxml.etree openpyxl PIL.Image requests yaml".split()


def modules(package: str) -> set[str]:
    """What can be imported of an installed package; what mypyc names by a number aside."""
    tops = {file.parts[0] for file in distribution(package).files or () if len(file.parts) > 1}
    alone = {file.name.partition(".")[0] for file in distribution(package).files or () if len(file.parts) == 1}
    return {top for top in tops | alone if top.isidentifier() and not top.startswith("__")}


@pytest.mark.unit
def test_the_modules_are_those_of_the_images_packages() -> None:
    packages = [line.partition("==")[0] for line in PACKAGES.read_text().splitlines() if line[:1] != "#"]
    assert set().union(*(modules(package) for package in packages if package != "pip")) == set(LIBRARIES)


def run(code: str, libraries: str) -> str:
    ours, its = socket.socketpair()
    command = [sys.executable, "-I", "-S", str(RUN_CODE), sysconfig.get_path("purelib"), libraries, "session"]
    with its:
        process = subprocess.Popen(
            [*command, str(its.fileno())], pass_fds=[its.fileno()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    with ours:
        ours.sendall(len(code).to_bytes(8, "big") + code.encode())
        ours.shutdown(socket.SHUT_WR)
        return process.communicate()[0].decode().strip()


@pytest.mark.unit
def test_no_other_installed_library_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("import json, six\nNAME = six.__name__")
    assert run("import numpy, pytest", "numpy") == "ModuleNotFoundError: No module named 'pytest'"
    assert run("import mine\nmine.NAME", "six") == "'six'"
    assert run("from importlib.metadata import version\nversion('six') > '1'", "six") == "True"
    assert run("import pytest\npytest.__name__", "") == "'pytest'"


@pytest.mark.tools
@pytest.mark.parametrize("server", ["python", "python_session"])
def test_the_usual_ones_are_there_in_every_sandbox_and_no_others(sandbox: Sandbox, server: str, tmp_path: Path) -> None:
    config = schema.Environment(servers=[server], slots=1, call_seconds=120.0)
    attempts = [("python", {"code": f"import {name}\n'there'"}) for name in (*USUAL, "torch", "aworld")]

    async def story() -> list[str]:
        async with EnvironmentPool(config, sandbox, None, tmp_path) as pool, pool.episode() as environment:
            return [(await environment.call(*attempt)).text for attempt in attempts]

    *there, torch, aworld = asyncio.run(story())
    assert dict(zip(USUAL, there, strict=True)) == dict.fromkeys(USUAL, "'there'")
    assert torch == "ModuleNotFoundError: No module named 'torch'"
    if sandbox.name != "apptainer":  # there the tool servers are part of the image
        assert aworld == "ModuleNotFoundError: No module named 'aworld'"
