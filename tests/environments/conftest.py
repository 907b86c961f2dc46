"""A loop that outlives one test so that servers can be shared."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aworld import config as schema
from aworld.environments.pool import EnvironmentPool
from aworld.environments.sandbox import Sandbox

FACTS = {
    "Arden population": "The population of Arden is 512.",
    "Arden height": "The height of Arden is 77.",
    "Belmor population": "The population of Belmor is 93.",
    "Belmor area": "The area of Belmor is 15. " + "Much more is known of it. " * 40,
}


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"title": title, "text": text}) + "\n" for title, text in FACTS.items()))
    return path


@pytest.fixture(scope="session")
def pool(
    loop: asyncio.Runner, sandbox: Sandbox, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EnvironmentPool]:
    """One slot, used again, in each sandbox that works here."""
    config = schema.Environment(slots=1, reuse="reset", call_seconds=4.0)
    pool = EnvironmentPool(config, sandbox, corpus, tmp_path_factory.mktemp("scratch"))
    loop.run(pool.__aenter__())
    yield pool
    loop.run(pool.__aexit__())
