"""YaRN in config.json: what Qwen3 documents becomes what transformers, vLLM and the trainer read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hf_folder import hf_folder
from transformers import AutoConfig

from aworld import config as configuration
from aworld.config import Model, Yarn
from aworld.errors import InputError
from aworld.models.positions import positions, set_yarn, with_yarn
from aworld.models.support import check

pytestmark = pytest.mark.unit

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
# as the published config.json of Qwen3-32B, and as transformers 5 writes it again
OLD: dict[str, Any] = {"model_type": "qwen3", "max_position_embeddings": 40960, "rope_theta": 1e6, "rope_scaling": None}
NEW: dict[str, Any] = {
    "model_type": "qwen3",
    "max_position_embeddings": 40960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
DOCUMENTED = [
    OLD | {"rope_scaling": YARN},  # the model card
    OLD | {"rope_scaling": {"type": "yarn", **{key: YARN[key] for key in YARN if key != "rope_type"}}},
    NEW | {"rope_parameters": {**YARN, "rope_theta": 1e6}},
]


@pytest.mark.parametrize("values", [OLD, NEW, *DOCUMENTED], ids=["old", "new", "card", "type", "parameters"])
@pytest.mark.parametrize("yarn", [Yarn(), Yarn(4.0)], ids=["not set", "set"])
def test_transformers_reads_the_yarn_that_is_set_or_there(tmp_path: Path, values: dict[str, Any], yarn: Yarn) -> None:
    (tmp_path / "config.json").write_text(json.dumps(values))
    set_yarn(tmp_path, yarn)
    found = AutoConfig.from_pretrained(tmp_path)
    if values in (OLD, NEW) and yarn == Yarn():
        assert found.rope_parameters == {"rope_type": "default", "rope_theta": 1e6}
        assert found.max_position_embeddings == 40960 and json.loads((tmp_path / "config.json").read_text()) == values
    else:
        assert {key: found.rope_parameters[key] for key in (*YARN, "rope_theta")} == {**YARN, "rope_theta": 1e6}
        assert found.max_position_embeddings == 131072


def test_it_is_added_once() -> None:
    once = with_yarn(OLD, Yarn(4.0))
    assert with_yarn(once, Yarn(4.0)) == with_yarn(once, Yarn()) == once
    assert OLD["rope_scaling"] is None


def test_other_families_keep_their_positions() -> None:
    other = {
        "model_type": "other",
        "max_position_embeddings": 100,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    }
    assert with_yarn(other, Yarn()) == other and positions(other) == 100


@pytest.fixture(scope="module")
def model() -> Model:
    return configuration.load(["recipe=demo"]).model  # 1,024 positions, of which a shard uses 512


def made(tmp_path: Path, model: Model, **values: Any) -> Model:
    return replace(model, path=str(hf_folder(tmp_path / "model", model.architecture, **values)))


def long(model: Model, tokens: int, yarn: Yarn) -> Model:
    return replace(model, yarn=yarn, shard=replace(model.shard, max_model_len=tokens))


def test_contexts_may_be_as_long_as_yarn_makes_them(tmp_path: Path, model: Model) -> None:
    plain = made(tmp_path, model)
    documented = YARN | {"original_max_position_embeddings": 800}
    with_it = made(tmp_path / "with it", model, rope_scaling=documented)
    written = made(tmp_path / "written", model, rope_scaling=documented, max_position_embeddings=3200)
    for given, yarn in [(model, Yarn(4.0, 800)), (plain, Yarn(4.0, 800)), (with_it, Yarn()), (written, Yarn(4.0, 800))]:
        check(long(given, 3200, yarn), trains=True)
        with pytest.raises(InputError, match=r"max_model_len=3201 is beyond the 3200 positions"):
            check(long(given, 3201, yarn), trains=True)


@pytest.mark.parametrize(
    ("values", "yarn", "message"),
    [
        ({}, Yarn(4.0), r"original_max_position_embeddings=32768 is beyond the 1024 positions .* of .*; lower it"),
        ({}, Yarn(2.0, 512), r"model.yarn is 2 × 512 positions, no more than the 1024 .* leave it out, or raise"),
        ({"rope_scaling": YARN}, Yarn(2.0), r"is 2 × 32768 positions, but .* has 4 × 32768 already; leave model.yarn"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            Yarn(),
            r"config.json: YaRN needs factor and original",
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, Yarn(4.0, 512), r"added to the rope_type=linear of"),
        (
            {"model_type": "llama"},
            Yarn(4.0, 512),
            r"is for Qwen3, and .*config.json has model_type=llama; leave it out",
        ),
    ],
)
def test_yarn_that_does_not_fit_is_refused(
    tmp_path: Path, model: Model, values: dict[str, Any], yarn: Yarn, message: str
) -> None:
    for trains in (True, False):
        given = made(tmp_path / str(trains), model, **values)
        with pytest.raises(InputError, match=message):
            check(replace(given, yarn=yarn), trains)
