"""When each setting may change: in a run that has begun, in a benchmark that was played, at the launch of one stage."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from aworld import config as configuration
from aworld.config import Change, Config, McpServer, Member, Part
from aworld.config.walk import every_setting

pytestmark = pytest.mark.unit
HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
HEAD, *EXPECTED = [re.split(" {2,}", line) for line in (HERE / "changes.txt").read_text().splitlines()]


@pytest.fixture(scope="module")
def config() -> Config:
    """Every section is there: a tool server and an agent called NAME, too."""
    found = configuration.load(["recipe=demo"])
    found.environment.mcp["NAME"], found.agent.members["NAME"] = McpServer(), Member()
    found.tasks.mixture["NAME"] = Part(source="jsonl")
    return found


def when(config: Config) -> dict[str, str]:
    """When each setting may change, also that of the two mappings that may be empty."""
    empty = configuration.load(["recipe=demo"])
    return {one.name: one.changes for part in (empty, config) for one in every_setting(part)}


def in_a_run(change: Change) -> str:
    words = {"any time": change.at_any_time, "between rounds": change.between_rounds, "upwards": change.asks_for_more}
    (word,) = [word for word, holds in words.items() if holds] or ["never"]
    return word


def in_a_benchmark(change: Change) -> str:
    lowered = Change(change.now, change.was, change.when)
    return {(True, True): "any time", (True, False): "upwards", (False, False): "never"}[
        change.in_a_benchmark, lowered.in_a_benchmark
    ]


def test_every_setting_may_change_when_the_table_says(config: Config) -> None:
    found = []
    for name, word in when(config).items():
        change = Change(1, 2, word)
        found.append([name, in_a_run(change), in_a_benchmark(change), "any time" if change.at_each_launch else "never"])
    assert sorted(found) == sorted(EXPECTED)


def braces(pattern: str) -> list[str]:
    """The patterns that a shell makes of a{b,c}d."""
    if not (found := re.search(r"\{(.*?)\}", pattern)):
        return [pattern]
    ends = braces(pattern[found.end() :])
    return [pattern[: found.start()] + word + end for word in found[1].split(",") for end in ends]


def row(page: str, begin: str) -> str:
    """The line of a document's table that begins so."""
    (line,) = [line for line in (DOCS / page).read_text().splitlines() if line.strip().startswith(begin)]
    return line


def named(text: str, names: list[str]) -> set[str]:
    """The settings that a text names, each or a whole section."""
    patterns = [pattern for word in re.findall(r"`([^` =]+)`", text) for pattern in braces(word)]
    found = {pattern: {n for n in names if fnmatch(n, pattern) or fnmatch(n, f"{pattern}.*")} for pattern in patterns}
    assert all(found.values()), [pattern for pattern, those in found.items() if not those]
    return set().union(*found.values())


@pytest.mark.parametrize(
    ("page", "begin", "words"),
    [
        ("run-on-your-cluster.md", "| at any time | those", {"any time", "each launch"}),
        ("run-on-your-cluster.md", "| at any time | `evaluation", {"upwards"}),
        ("run-on-your-cluster.md", "| between two rounds", {"between rounds"}),
        ("evaluate-on-gaia.md", "| `tasks.{path", {"any time", "each launch", "between rounds", "in a benchmark"}),
        ("evaluate-on-gaia.md", "| `evaluation.attempts`", {"upwards"}),
    ],
)
def test_the_tables_of_the_documents_say_the_same(config: Config, page: str, begin: str, words: set[str]) -> None:
    may = when(config)
    assert named(row(page, begin), list(may)) == {name for name, word in may.items() if word in words}


def test_the_settings_that_a_launch_of_one_stage_refuses(config: Config) -> None:
    may = when(config)
    text = row("run-directory.md", "from `run.yaml`").replace("`run.yaml`", "")
    assert named(text, list(may)) == {n for n, word in may.items() if n.startswith("site.") and word == "any time"}
