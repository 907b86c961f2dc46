"""Results that no UTF-8 has, through a real client: half a character is no reason to lose a server."""

import asyncio
import io
import os
import tarfile
from pathlib import Path

import pytest

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import SubprocessSandbox
from aworld.tools.common.result import made, text

pytestmark = pytest.mark.unit


def test_half_a_character_costs_neither_the_call_nor_the_server(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"said": "\\ud83d", "and": "\\ud83d\\ude00"}')
    with tarfile.open(tmp_path / "latin.tar", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("café.txt"), io.BytesIO())
    config = schema.Environment(servers=["documents", "files", "folder"], slots=1)
    config.call_seconds = 10.0
    calls: list[tuple[str, dict]] = [
        ("read_document", {"path": "half.json"}),
        ("unpack", {"path": "latin.tar"}),
        ("list_files", {}),
        ("read_file", {"path": "none"}),
    ]

    files = tmp_path / "half.json", tmp_path / "latin.tar"

    async def story(root: Path) -> list[Observation]:
        async with EnvironmentPool(config, SubprocessSandbox(), None, root) as pool, pool.episode(files) as environment:
            return [await environment.call(name, arguments) for name, arguments in calls]

    (tmp_path / "root").mkdir()
    seen = [one.text for one in asyncio.run(story(tmp_path / "root"))]
    assert seen[0] == '{\n "said": "?",\n "and": "\U0001f600"\n}'
    assert seen[1] == "1 entries: caf?.txt"
    assert "0\tcaf?.txt" in seen[2].splitlines()
    assert seen[3] == "no file 'none'; there are: caf?.txt, half.json, latin.tar"


def test_every_result_can_be_written() -> None:
    name = os.fsdecode(b"caf\xe9.png")
    for result in (text(name), made(name, name)):
        assert "caf?.png" in " ".join((result.text, *result.files)).encode().decode()
