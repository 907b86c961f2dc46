"""What is known of a model before it is loaded: each fault in one line, at preparation and not in a job."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hf_folder import hf_folder, safetensors

from aworld import config as configuration
from aworld.config import Model
from aworld.errors import InputError
from aworld.models.support import check

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model() -> Model:
    return configuration.load(["recipe=demo"]).model


def made(tmp_path: Path, model: Model, **values: Any) -> Model:
    return replace(model, path=str(hf_folder(tmp_path / "model", model.architecture, **values)))


def test_a_whole_folder_passes(tmp_path: Path, model: Model) -> None:
    check(model, trains=True)  # one that is made
    check(made(tmp_path, model), trains=True)
    check(
        made(tmp_path / "new", model, rope_theta=None, rope_parameters={"rope_type": "default", "rope_theta": 1000.0}),
        True,
    )


@pytest.mark.parametrize("name", sorted(file.stem for file in (configuration.CONFIGS / "model").glob("qwen3-*.yaml")))
def test_every_shipped_model_takes_its_checkpoint(tmp_path: Path, name: str) -> None:
    shipped = configuration.load(["recipe=demo", f"model={name}", "model.path=/some/checkpoint"]).model
    check(made(tmp_path, shipped), trains=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "qwen3_moe"}, "knows the architecture qwen3 .dense., not qwen3_moe; choose another"),
        ({"model_type": "qwen2"}, "not qwen2; choose another"),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            r"weights are quantized \(fp8\); choose the model in bfloat16",
        ),
        ({"attention_bias": True}, "attention_bias=True, but the trainer knows only False"),
        ({"use_sliding_window": True}, "use_sliding_window=True, but"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "not sliding windows"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "plain rotary positions and YaRN, not rope_type=linear"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1000.0}}, "not rope_type=llama3; choose another"),
        ({"hidden_size": 256}, r"model.architecture.hidden_size=128, but .*config.json has 256; choose the model=NAME"),
        ({"max_position_embeddings": 256}, r"max_model_len=512 is beyond the 256 positions"),
    ],
)
def test_what_the_trainer_does_not_know_is_refused(
    tmp_path: Path, model: Model, values: dict[str, Any], message: str
) -> None:
    given = made(tmp_path, model, **values)
    if "max_position_embeddings" in values:
        given = replace(given, architecture=replace(given.architecture, **values))
    with pytest.raises(InputError, match=message):
        check(given, trains=True)


def test_what_vllm_alone_serves_need_not_be_known_to_the_trainer(tmp_path: Path, model: Model) -> None:
    check(made(tmp_path, model, model_type="qwen3_moe", rope_scaling={"rope_type": "linear"}), trains=False)


LAST = "model-00002-of-00002.safetensors"


def cut(folder: Path) -> None:
    with open(folder / LAST, "r+b") as f:
        f.truncate((folder / LAST).stat().st_size - 1)


def without_a_tensor(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shapes = {"model.norm.weight": (128,)}
    safetensors(folder / "model.safetensors", shapes)
    (folder / "model.safetensors.index.json").unlink()
    assert len(index["weight_map"]) > 1


def in_bin_files(folder: Path) -> None:
    for file in folder.glob("model*"):
        file.rename(file.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "is no HF checkpoint: it holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not valid JSON"),
        (lambda f: (f / "tokenizer.json").unlink(), "holds no tokenizer.json"),
        (lambda f: (f / LAST).unlink(), rf"{LAST} is not there \(1 of 2 files\); fetch them"),
        (cut, rf"{LAST} is cut off at \d+ of \d+ bytes; fetch it again"),
        (lambda f: (f / LAST).write_text("<html>"), rf"{LAST} is no safetensors file"),
        (lambda f: safetensors(f / LAST, {"model.norm.weight": (128,)}), r"index.json names .*, which no file holds"),
        (lambda f: safetensors(f / LAST, {"x": (1,)}, "F8_E4M3"), "x is of type F8_E4M3; choose the model in bfloat16"),
        (without_a_tensor, r"no tensor lm_head.weight \(\d+ are missing\)"),
        (in_bin_files, "holds .bin weights; save it as safetensors"),
        (lambda f: [file.unlink() for file in f.glob("model*")], "holds no weights: neither model.safetensors nor"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    tmp_path: Path, model: Model, damage: Callable[[Path], object], message: str
) -> None:
    given = made(tmp_path, model)
    damage(tmp_path / "model")
    with pytest.raises(InputError, match=message):
        check(given, trains=True)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("parallel.tensor_model_parallel_size=3", "tensor_model_parallel_size=3 does not divide num_attention_heads=4"),
        ("parallel.tensor_model_parallel_size=4", "tensor_model_parallel_size=4 does not divide num_key_value_heads=2"),
        (
            "parallel.pipeline_model_parallel_size=2",
            "pipeline_model_parallel_size=2 does not divide num_hidden_layers=3",
        ),
        ("shard.tensor_parallel_size=3", "shard.tensor_parallel_size=3 does not divide num_attention_heads=4"),
        ("architecture.vocab_size=1025", "tensor_model_parallel_size=2 does not divide vocab_size=1025"),
        ("architecture.vocab_size=200", "vocab_size=200 is too small: a byte-level tokenizer needs at least 265"),
        (
            "architecture.num_attention_heads=2 architecture.num_key_value_heads=4",
            "num_key_value_heads=4 does not divide",
        ),
        ("shard.max_model_len=2048", "max_model_len=2048 is beyond the 1024 positions"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(key: str, message: str) -> None:
    words = [f"model.{word}" for word in key.split()]
    config = configuration.load(["recipe=demo", *words])
    with pytest.raises(InputError, match=message):
        check(config.model, trains=True)
