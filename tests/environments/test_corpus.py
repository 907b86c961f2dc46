"""An index of real documents, searched in every sandbox that works here."""

import asyncio
import json
import sqlite3
from pathlib import Path

import docx
import pytest

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.cli import main
from aworld.environments.corpus import index
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox
from aworld.errors import InputError

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    (folder / "deep").mkdir(parents=True)
    document = docx.Document()
    document.add_paragraph("The lighthouse keeper counted forty gulls.")
    document.save(str(folder / "deep" / "diary.docx"))
    (folder / "notes.md").write_text("# Gulls\nA gull is a bird.\n" + "Filler. " * 2000)
    (folder / "page.html").write_text("<p>Ships pass the <b>lighthouse</b>.</p><script>secret()</script>")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / "photo.png").write_bytes(b"\x89PNG")
    return folder


def ask(sandbox: Sandbox, corpus: Path, root: Path, *calls: tuple[str, dict]) -> list[Observation]:
    config = schema.Environment(servers=["search"], slots=1, corpus=str(corpus), result_chars=20_000)

    async def story() -> list[Observation]:
        async with EnvironmentPool(config, sandbox, None, root) as pool, pool.episode() as environment:
            return [await environment.call(name, arguments) for name, arguments in calls]

    return asyncio.run(story())


def test_a_folder_is_searched_and_its_pages_opened(sandbox: Sandbox, folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "index.sqlite"
    assert index(folder, corpus) == (3, 1)
    (tmp_path / "root").mkdir()
    seen = ask(
        sandbox,
        corpus,
        tmp_path / "root",
        ("search", {"query": "lighthouse"}),
        ("search", {"query": "forty gulls"}),
        ("open_page", {"title": "diary"}),
        ("open_page", {"title": "deep/diary.docx"}),
        ("open_page", {"title": "notes", "part": 2}),
        ("open_page", {"title": "nothing"}),
        ("search", {"query": "secret"}),
    )
    assert {line.partition(":")[0] for line in seen[0].text.splitlines()} == {"diary", "page"}
    assert seen[1].text == "diary: The lighthouse keeper counted forty gulls."
    assert seen[2].text == seen[3].text == "The lighthouse keeper counted forty gulls."
    text = (folder / "notes.md").read_text()
    assert seen[4].text == text[8000:16000] + "\n[part 2 of 3; go on with part=3]"
    assert seen[5].is_error and "no page 'nothing'" in seen[5].text
    assert seen[6].is_error


def test_a_dump_is_indexed_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"title": f"Page {n}", "text": f"Number {n} of many.", "url": f"http://x/{n}"} for n in range(50)]
    (tmp_path / "dump.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = tmp_path / "made" / "dump.sqlite"
    assert main(["corpus", str(tmp_path / "dump.jsonl"), str(corpus)]) == 0
    assert capsys.readouterr().out == f"{corpus}: 50 pages\n"
    with sqlite3.connect(corpus) as database:  # by SQLite alone
        found = database.execute("SELECT name FROM pages WHERE pages MATCH 'number AND 17'").fetchall()
    assert found == [("http://x/17",)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"title": "a", "text": "b"}\n{"title": "a"}\n', "line 2: not a JSON object with title and text"),
        ("[1]\n", "line 1: not a JSON object"),
        ("", "holds nothing that can be read"),
    ],
)
def test_what_is_no_dump_leaves_nothing(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "dump.jsonl").write_text(content)
    with pytest.raises(InputError, match=told):
        index(tmp_path / "dump.jsonl", tmp_path / "index.sqlite")
    assert [path.name for path in tmp_path.iterdir()] == ["dump.jsonl"]


def test_a_corpus_that_is_not_there(tmp_path: Path, sandbox: Sandbox) -> None:
    with pytest.raises(InputError, match=r"none\.sqlite is not there; make an index with aworld corpus"):
        ask(sandbox, tmp_path / "none.sqlite", tmp_path)
    with pytest.raises(InputError, match="give a folder of documents"):
        index(tmp_path / "nothing", tmp_path / "index.sqlite")
