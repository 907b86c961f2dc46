"""The positions that a model knows, and YaRN, which adds more (Peng et al., 2023, arXiv 2309.00071), in config.json.

The functions read both spellings: `rope_parameters`, and `rope_scaling` with `rope_theta` beside it (transformers 4).
"""

import json
from pathlib import Path
from typing import Any

from aworld.config import Yarn
from aworld.errors import InputError
from aworld.models.hf import CONFIG

FAMILY = ("qwen3", "qwen3_moe")  # whose authors document YaRN; other models keep their config.json


def rope(values: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings in a config.json: `rope_type`, `rope_theta` where given, and those of the type.

    Where both spellings are there, transformers takes `rope_scaling`.
    """
    found = dict(values.get("rope_scaling") or values.get("rope_parameters") or {})
    found.setdefault("rope_type", found.pop("type", "default"))
    if "rope_theta" in values:
        found.setdefault("rope_theta", values["rope_theta"])
    return found


def has_yarn(values: dict[str, Any]) -> bool:
    """Whether the config.json is Qwen3's with YaRN."""
    return values.get("model_type", FAMILY[0]) in FAMILY and rope(values)["rope_type"] == "yarn"


def positions(values: dict[str, Any]) -> int | None:
    """The tokens that a context can hold; None where the config.json does not say."""
    if has_yarn(values):
        found = rope(values)
        return int(found["factor"] * found["original_max_position_embeddings"])
    return values.get("max_position_embeddings")


def check_yarn(yarn: Yarn, values: dict[str, Any], where: str) -> None:
    """Check that the setting `model.yarn` fits a config.json, and the YaRN that this has already.

    Args:
        where: names the config.json in messages.

    Raises:
        InputError: they do not fit together, or YaRN would add no positions.
    """
    found, trained = rope(values), values.get("max_position_embeddings", 0)
    kind, factor, original = found["rope_type"], yarn.factor, yarn.original_max_position_embeddings
    if has_yarn(values) and not {"factor", "original_max_position_embeddings"} <= found.keys():
        raise InputError(f"{where}: YaRN needs factor and original_max_position_embeddings; write both there")
    if factor == 1:
        return
    if values.get("model_type", FAMILY[0]) not in FAMILY:
        raise InputError(f"model.yarn is for Qwen3, and {where} has model_type={values['model_type']}; leave it out")
    if kind == "yarn":
        there = found["factor"], found["original_max_position_embeddings"]
        if there != (factor, original):
            raise InputError(
                f"model.yarn is {factor:g} × {original} positions, but {where} has {there[0]:g} × {there[1]} already; "
                "leave model.yarn out"
            )
    elif kind != "default":
        raise InputError(f"model.yarn cannot be added to the rope_type={kind} of {where}; leave it out")
    elif original > trained:
        raise InputError(
            f"model.yarn.original_max_position_embeddings={original} is beyond the {trained} positions "
            f"(max_position_embeddings) of {where}; lower it"
        )
    elif factor * original <= trained:
        raise InputError(
            f"model.yarn is {factor:g} × {original} positions, no more than the {trained} (max_position_embeddings) of "
            f"{where}; leave it out, or raise model.yarn.factor"
        )


def with_yarn(values: dict[str, Any], yarn: Yarn) -> dict[str, Any]:
    """A config.json with the YaRN of `model.yarn`, for transformers, vLLM and the trainer alike.

    `max_position_embeddings` becomes the length of the longest context, also where YaRN was there already. Qwen3's
    documentation leaves it at 40,960, but vLLM takes it for the limit.
    """
    values = dict(values)
    if yarn.factor != 1 and not has_yarn(values):
        key = "rope_parameters" if values.get("rope_parameters") else "rope_scaling"
        values[key] = {
            **(values.get(key) or {}),
            "rope_type": "yarn",
            "factor": yarn.factor,
            "original_max_position_embeddings": yarn.original_max_position_embeddings,
        }
    if has_yarn(values):
        values["max_position_embeddings"] = positions(values)
    return values


def set_yarn(folder: Path, yarn: Yarn) -> None:
    """Write the YaRN of `model.yarn` into an HF folder: transformers, vLLM and the trainer read its config.json."""
    file = folder / CONFIG
    before = json.loads(file.read_text("utf-8"))
    after = with_yarn(before, yarn)
    if after != before:
        file.write_text(json.dumps(after, indent=2), "utf-8")
