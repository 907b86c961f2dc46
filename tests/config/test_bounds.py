"""Every number of the schema has limits, and what lies outside of them is refused by its full name."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from aworld import config as configuration
from aworld.config import McpServer, Member, bounds
from aworld.errors import InputError

pytestmark = pytest.mark.unit
DEMO = ["recipe=demo", "site=local"]


def unlimited(config: Any, name: str) -> Iterator[str]:
    for one in fields(config):
        value, full = getattr(config, one.name), f"{name}.{one.name}"
        if is_dataclass(value):
            yield from unlimited(value, full)
        elif one.type in (int, float, float | None) and not one.metadata.get("limits"):
            yield full


def test_every_number_has_limits() -> None:
    config = configuration.load(DEMO)
    for part, name in ((config, "config"), (Member(), "member"), (McpServer(), "mcp")):
        assert list(unlimited(part, name)) == []


@pytest.mark.parametrize("model", ["tiny", "qwen3-32b"])
@pytest.mark.parametrize("site", ["local", "example", "test-cluster"])
def test_what_is_shipped_is_within_them(site: str, model: str) -> None:
    bounds.check(configuration.load(["recipe=demo", f"site={site}", f"model={model}", "model.path=/some/model"]))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("training.lr=-1", "training.lr=-1.0 cannot be; it has to be above 0"),
        ("training.lr=.nan", "training.lr=nan cannot be"),
        ("training.lr=.inf", "training.lr=inf cannot be"),
        ("training.adam_beta2=1", "training.adam_beta2=1.0 cannot be; it has to be at least 0 and below 1"),
        ("training.batch_size=0", "training.batch_size=0 cannot be; it has to be at least 1"),
        ("training.cold_start.epochs=0", "training.cold_start.epochs=0 cannot be"),
        ("pipeline.rounds=-1", "pipeline.rounds=-1 cannot be; it has to be at least 0"),
        ("evaluation.attempts=0", "evaluation.attempts=0 cannot be; it has to be at least 1"),
        ("seed=-1", "seed=-1 cannot be; it has to be at least 0 and at most 4294967295"),
        ("seed=18446744073709551616", "seed=18446744073709551616 cannot be"),
        ("tasks.seed=-1", "tasks.seed=-1 cannot be"),
        ("environment.reuse=always", "environment.reuse=always is not there; valid: never, reset"),
        ("site.rollout.elements=0", "site.rollout.elements=0 cannot be; it has to be at least 1"),
        ("site.sandbox=none", "site.sandbox=none is not there; valid: auto, apptainer, bubblewrap, subprocess"),
        ("model.dtype=fp8", "model.dtype=fp8 is not there; valid: float32, bfloat16"),
        ("environment.tool_seconds.browse=0", "environment.tool_seconds.browse=0.0 cannot be; it has to be above 0"),
        ("agent.members.one.seconds=-1", "agent.members.one.seconds=-1.0 cannot be"),
        ("agent.top_p=1.5", "agent.top_p=1.5 cannot be; it has to be above 0 and at most 1"),
    ],
)
def test_what_lies_outside_is_refused(word: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        bounds.check(configuration.load([*DEMO, word]))
    assert str(caught.value).startswith(message)
