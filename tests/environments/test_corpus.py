"""An index of real documents, searched in every sandbox that works here."""

import asyncio
import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import docx
import pytest

from aworld import config as schema
from aworld.agents.protocols import Observation
from aworld.cli import main
from aworld.environments.corpus import index
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox, SubprocessSandbox
from aworld.errors import InputError
from aworld.tools.search import OPEN, Corpus

pytestmark = pytest.mark.tools


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


def ask(sandbox: Sandbox, corpus: Path, root: Path, *calls: tuple[str, dict], chars: int = 20_000) -> list[Observation]:
    config = schema.Environment(servers=["search"], slots=1, corpus=str(corpus), result_chars=chars)

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
    headings = {line.partition(":")[0] for line in seen[0].text.splitlines()}
    assert headings == {"diary (deep/diary.docx)", "page (page.html)"}
    assert seen[1].text == "diary (deep/diary.docx): The lighthouse keeper counted forty gulls."
    assert seen[2].text == seen[3].text == "The lighthouse keeper counted forty gulls."
    text = (folder / "notes.md").read_text()
    assert seen[4].text == "[part 2 of 3; go on with part=3]\n" + text[8000:16000]
    assert seen[5].is_error and "no page 'nothing'" in seen[5].text
    assert seen[6].is_error


@pytest.mark.parametrize("chars", [schema.Environment().result_chars, 8000])
def test_a_part_that_is_cut_still_says_how_to_go_on(folder: Path, tmp_path: Path, chars: int) -> None:
    corpus = tmp_path / "index.sqlite"
    index(folder, corpus)
    (tmp_path / "root").mkdir()
    (seen,) = ask(SubprocessSandbox(), corpus, tmp_path / "root", ("open_page", {"title": "notes"}), chars=chars)
    lines = seen.text.splitlines()
    assert lines[:2] == ["[part 1 of 3; go on with part=2]", "# Gulls"]
    assert lines[-1] == f"[cut: {chars} of 8033 characters; the whole of this result is in result-1.txt]"


def test_a_dump_is_indexed_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"title": f"Page {n}", "text": f"Number {n} of many.", "url": f"http://x/{n}"} for n in range(50)]
    (tmp_path / "dump.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = tmp_path / "made" / "dump.sqlite"
    assert main(["corpus", str(tmp_path / "dump.jsonl"), str(corpus)]) == 0
    assert capsys.readouterr().out == f"{corpus}: 50 pages\n"
    with sqlite3.connect(corpus) as database:  # by SQLite alone
        found = database.execute("SELECT name FROM pages WHERE pages MATCH 'number AND 17'").fetchall()
    assert found == [("http://x/17",)]


def test_half_a_character_in_a_folder_costs_that_character(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "half.json").write_text('{"said": "\\ud83d gulls"}')
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("A lighthouse.")
    assert index(folder, tmp_path / "index.sqlite") == (2, 0)
    corpus = Corpus(tmp_path / "index.sqlite")
    assert "? gulls" in str(corpus.page("half.json")) and corpus.page("caf?.txt") == "A lighthouse."


def test_a_line_of_a_dump_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    rows = [{"title": f"a{mark}b", "text": f"c{mark}d"} for mark in "\u2028\u2029\x85"]
    (tmp_path / "dump.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    assert index(tmp_path / "dump.jsonl", tmp_path / "index.sqlite") == (3, 0)
    corpus = Corpus(tmp_path / "index.sqlite")
    assert [corpus.page(row["title"]) for row in rows] == [row["text"] for row in rows]


def test_pages_of_one_title_are_told_apart_by_their_address(tmp_path: Path) -> None:
    rows = [{"title": "Mercury", "text": f"It is a {what}.", "url": f"http://x/{what}"} for what in ("planet", "metal")]
    rows += [{"title": "http://x/metal", "text": "A page about an address."}, {"title": "Venus", "text": "A planet."}]
    (tmp_path / "dump.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index(tmp_path / "dump.jsonl", tmp_path / "index.sqlite")
    corpus = Corpus(tmp_path / "index.sqlite")
    assert [heading for heading, _ in corpus.search("metal it is")] == ["Mercury (http://x/metal)"]
    assert [heading for heading, _ in corpus.search("Venus")] == ["Venus"]
    assert corpus.page("http://x/metal") == "It is a metal."  # a name comes before a title
    assert corpus.page("http://x/planet") == corpus.page("Mercury") == "It is a planet."  # of equals the first
    assert corpus.page("mercury") is None


def test_a_page_of_many_is_found_by_its_name_at_once(tmp_path: Path) -> None:
    with (tmp_path / "dump.jsonl").open("w") as dump:
        for n in range(100_000):
            dump.write(json.dumps({"title": f"Page {n}", "text": f"Number {n}. " * 5, "url": f"http://x/{n}"}) + "\n")
    index(tmp_path / "dump.jsonl", tmp_path / "index.sqlite")
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as database:
        plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {OPEN}", ("Page 7",))]
    assert "SEARCH names USING COVERING INDEX by_name (called=?)" in plan
    assert [step for step in plan if "VIRTUAL TABLE" in step] == ["SCAN pages VIRTUAL TABLE INDEX 0:="]  # by its rowid
    corpus = Corpus(tmp_path / "index.sqlite")
    began = time.process_time()
    for n in range(0, 100_000, 1000):
        assert corpus.page(f"Page {n}") == corpus.page(f"http://x/{n}") == f"Number {n}. " * 5
        assert corpus.page(f"nothing {n}") is None
    assert (
        time.process_time() - began < 1
    )  # 300 pages; each took a tenth of a second when all names were looked through


def test_an_index_without_names_is_to_be_made_anew(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.sqlite")) as database:
        database.execute("CREATE VIRTUAL TABLE pages USING fts5(title, text, name UNINDEXED)")
    with pytest.raises(SystemExit, match="has no index of names; make it anew with aworld corpus"):
        Corpus(tmp_path / "old.sqlite")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"title": "a", "text": "b"}\n{"title": "a"}\n', "line 2: not a JSON object with title and text"),
        ("[1]\n", "line 1: not a JSON object"),
        ('{"title": {"of": "it"}, "text": "b"}\n', "line 1: not a JSON object with title and text"),
        ('\n{"title": "a", "text": null}\n', "line 2: not a JSON object with title and text"),
        ('{"title": "a", "text": "b", "url": ["x"]}\n', "line 1: not a JSON object with title and text"),
        ('{"title": "a", "text": "\\ud800"}\n', "line 1: not a JSON object with title and text"),
        (b'{"title": "a", "text": "b"}\n{"title": "\xff", "text": "b"}\n', "line 2: not a JSON object"),
        ("", "holds nothing that can be read"),
    ],
)
def test_what_is_no_dump_leaves_nothing(tmp_path: Path, content: str | bytes, told: str) -> None:
    (tmp_path / "dump.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=told):
        index(tmp_path / "dump.jsonl", tmp_path / "index.sqlite")
    assert [path.name for path in tmp_path.iterdir()] == ["dump.jsonl"]


def test_a_corpus_that_is_not_there(tmp_path: Path, sandbox: Sandbox) -> None:
    with pytest.raises(InputError, match=r"none\.sqlite is not there; make an index with aworld corpus"):
        ask(sandbox, tmp_path / "none.sqlite", tmp_path)
    with pytest.raises(InputError, match="give a folder of documents"):
        index(tmp_path / "nothing", tmp_path / "index.sqlite")
