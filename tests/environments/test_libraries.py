"""The libraries that the agent's code finds: the same in every sandbox."""

import asyncio
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from aworld import config as schema
from aworld.environments.libraries import LIBRARIES
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox

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


CALL = """
import sys
from aworld.tools.common import execute
from aworld.tools.python import start
print(execute.run_process(start, sys.argv[1], 60.0).text)
"""


def run(code: str, libraries: str) -> str:
    """What a call of `python` shows, where the server's environment names these libraries."""
    command, env = [sys.executable, "-c", CALL, code], os.environ | {"AWORLD_LIBRARIES": libraries}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


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
