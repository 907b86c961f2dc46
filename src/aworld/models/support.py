"""Whether a model, its parallel layouts and its lengths are ones that vLLM can serve and Megatron can train."""

from pathlib import Path
from typing import Any

from aworld.config import Architecture, Model
from aworld.errors import InputError
from aworld.models.hf import CONFIG, Folder, read
from aworld.models.positions import check_yarn, positions, rope, with_yarn
from aworld.models.special_tokens import LEAST_VOCABULARY

# Values of config.json that the trainer takes for granted.
FIXED = {"attention_bias": False, "use_sliding_window": False, "hidden_act": "silu"}


def check(model: Model, trains: bool) -> None:
    """Check the model in `model.path`, or else the architecture to make one from, and the layouts of both engines.

    Args:
        trains: whether Megatron trains it; else vLLM alone serves it.

    Raises:
        InputError: the folder is missing or incomplete; the trainer does not know the architecture; a layout or a
            length does not fit the model.
    """
    if model.path is None:
        values: dict[str, Any] = vars(model.architecture)
        if values["vocab_size"] < LEAST_VOCABULARY:
            raise InputError(
                f"model.architecture.vocab_size={values['vocab_size']} is too small: a byte-level tokenizer needs at "
                f"least {LEAST_VOCABULARY}"
            )
        where = "model.architecture"
    else:
        folder = read(Path(model.path))
        values, where = folder.values, str(folder.path / CONFIG)
    check_yarn(model.yarn, values, where)
    if model.path is not None and trains:
        _check_trained(folder, model.architecture)
    _check_layout(model, with_yarn(values, model.yarn), where, trains)


def _check_trained(folder: Folder, architecture: Architecture) -> None:
    """Check that the trainer knows the checkpoint's architecture, and that the configuration describes it."""
    values, where = folder.values, folder.path / CONFIG
    if values.get("model_type") != "qwen3":
        raise InputError(
            f"{where}: the trainer knows the architecture qwen3 (dense), not {values.get('model_type')}; choose "
            "another model.path, or train nothing (pipeline.rounds=0, training.cold_start.tasks=0, and no "
            "training.cold_start.conversations)"
        )
    for name, fixed in FIXED.items():
        if values.get(name, fixed) != fixed:
            raise InputError(
                f"{where}: {name}={values[name]}, but the trainer knows only {fixed}; choose another model"
            )
    rotary = rope(values)
    if rotary["rope_type"] not in ("default", "yarn"):
        raise InputError(
            f"{where}: the trainer knows plain rotary positions and YaRN, not rope_type={rotary['rope_type']}; choose "
            "another model"
        )
    if "sliding_attention" in (values.get("layer_types") or ()):
        raise InputError(f"{where}: the trainer knows full attention, not sliding windows; choose another model")
    given = values | rotary
    if rotary["rope_type"] == "yarn":
        given.pop("max_position_embeddings", None)  # it may count the positions that YaRN adds
    for name, wanted in vars(architecture).items():
        if name != "initializer_range" and name in given and given[name] != wanted:
            raise InputError(
                f"model.architecture.{name}={wanted}, but {where} has {given[name]}; choose the model=NAME of this "
                "checkpoint, or write its file in configs/model/"
            )
    expected = tensors(architecture)
    if missing := sorted(expected.keys() - folder.shapes.keys()):
        raise InputError(f"{folder.path}: no tensor {missing[0]} ({len(missing)} are missing); fetch the folder again")
    for name, shape in expected.items():
        if folder.shapes[name] != shape:
            raise InputError(f"{folder.path}: {name} has the shape {folder.shapes[name]}, but {CONFIG} wants {shape}")


def tensors(a: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor of a dense Qwen3, by its HF name."""
    heads, groups = a.num_attention_heads * a.head_dim, a.num_key_value_heads * a.head_dim
    layer = {
        "input_layernorm": (a.hidden_size,),
        "self_attn.q_proj": (heads, a.hidden_size),
        "self_attn.k_proj": (groups, a.hidden_size),
        "self_attn.v_proj": (groups, a.hidden_size),
        "self_attn.q_norm": (a.head_dim,),
        "self_attn.k_norm": (a.head_dim,),
        "self_attn.o_proj": (a.hidden_size, heads),
        "post_attention_layernorm": (a.hidden_size,),
        "mlp.gate_proj": (a.intermediate_size, a.hidden_size),
        "mlp.up_proj": (a.intermediate_size, a.hidden_size),
        "mlp.down_proj": (a.hidden_size, a.intermediate_size),
    }
    found: dict[str, tuple[int, ...]] = {
        f"model.layers.{number}.{name}.weight": shape
        for number in range(a.num_hidden_layers)
        for name, shape in layer.items()
    }
    found |= {"model.embed_tokens.weight": (a.vocab_size, a.hidden_size), "model.norm.weight": (a.hidden_size,)}
    return found if a.tie_word_embeddings else found | {"lm_head.weight": (a.vocab_size, a.hidden_size)}


def _check_layout(model: Model, values: dict[str, Any], where: str, trains: bool) -> None:
    """Check that lengths and parallel sizes fit the config.json `values`, which `where` names in messages."""
    shard, parallel = model.shard, model.parallel
    longest = positions(values)
    if longest is not None and shard.max_model_len > longest:
        raise InputError(
            f"model.shard.max_model_len={shard.max_model_len} is beyond the {longest} positions of {where}; lower it, "
            "or raise model.yarn.factor"
        )
    splits = [("model.shard.tensor_parallel_size", shard.tensor_parallel_size, "num_attention_heads")]
    if trains:
        tensor = ("model.parallel.tensor_model_parallel_size", parallel.tensor_model_parallel_size)
        splits += [(*tensor, name) for name in ("num_attention_heads", "num_key_value_heads", "vocab_size")]
        pipeline = "model.parallel.pipeline_model_parallel_size"
        splits.append((pipeline, parallel.pipeline_model_parallel_size, "num_hidden_layers"))
    for name, size, of in splits:
        if of in values and values[of] % size:
            raise InputError(f"{name}={size} does not divide {of}={values[of]} of {where}; change it")
    heads, groups = values.get("num_attention_heads"), values.get("num_key_value_heads")
    if heads and groups and heads % groups:
        raise InputError(f"num_key_value_heads={groups} does not divide num_attention_heads={heads} of {where}")
