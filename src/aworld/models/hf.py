"""A model's HF folder, read as far as it takes to know that it can be served and trained: no weights are loaded."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aworld.config import Architecture, Model
from aworld.errors import InputError

CONFIG, INDEX, WEIGHTS, TOKENIZER = "config.json", "model.safetensors.index.json", "model.safetensors", "tokenizer.json"
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
LEAST_VOCABULARY = 256 + len(SPECIAL_TOKENS)  # of a byte-level tokenizer of our own
TYPES = ("F32", "F16", "BF16")  # FP8 and integers would need their scales
# of config.json: what the trainer takes for granted
FIXED = {"attention_bias": False, "use_sliding_window": False, "hidden_act": "silu"}


@dataclass(frozen=True)
class Folder:
    """What is known of a checkpoint.

    Attributes:
        values: of its config.json.
        shapes: of its tensors, by name.
    """

    path: Path
    values: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def check(model: Model, trains: bool) -> None:
    """Check the model in `model.path`, or the architecture that one is made from, and the layouts of both engines.

    Args:
        trains: whether Megatron trains it; else vLLM alone serves it.

    Raises:
        InputError: the folder is none, or incomplete; the trainer does not know the architecture; a layout or a length
            does not fit it.
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
        if trains:
            _check_trained(folder, model.architecture)
    _check_layout(model, values, where, trains)


def read(path: Path) -> Folder:
    """What the folder says of itself.

    Raises:
        InputError: something of it is missing, cut off, or of a type that is not read.
    """
    if not path.is_dir():
        raise InputError(f"model.path={path} is not there (looked in {Path.cwd()}); give the folder's full path")
    if not (path / CONFIG).is_file():
        raise InputError(f"model.path={path} is no HF checkpoint: it holds no {CONFIG}")
    if not (path / TOKENIZER).is_file():
        raise InputError(f"model.path={path} holds no {TOKENIZER}; fetch the whole folder, or save its fast tokenizer")
    values = _json(path / CONFIG)
    method = values.get("quantization_config")
    if isinstance(method, dict):
        raise InputError(
            f"{path / CONFIG}: weights are quantized ({method.get('quant_method', 'quantization_config')}); "
            "choose the model in bfloat16"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for file in _weights(path):
        shapes |= _shapes(file)
    if (path / INDEX).is_file():
        missing = sorted(_json(path / INDEX)["weight_map"].keys() - shapes.keys())
        if missing:
            raise InputError(f"{path}: {INDEX} names {missing[0]}, which no file holds; fetch the folder again")
    return Folder(path, values, shapes)


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as reason:
        raise InputError(f"{path} is not valid JSON ({reason}); fetch it again") from None
    if not isinstance(values, dict) or not isinstance(values.get("weight_map", {}), dict):
        raise InputError(f"{path} does not hold what its name says; fetch it again")
    if path.name == INDEX and "weight_map" not in values:
        raise InputError(f"{path} holds no weight_map; fetch it again")
    return values


def _weights(path: Path) -> list[Path]:
    if (path / INDEX).is_file():
        names = sorted(set(_json(path / INDEX)["weight_map"].values()))
    elif (path / WEIGHTS).is_file():
        names = [WEIGHTS]
    elif any(path.glob("*.bin")):
        raise InputError(f"model.path={path} holds .bin weights; save it as safetensors")
    else:
        raise InputError(f"model.path={path} holds no weights: neither {WEIGHTS} nor {INDEX}; fetch the whole folder")
    if missing := [name for name in names if not (path / name).is_file()]:
        raise InputError(f"{path / missing[0]} is not there ({len(missing)} of {len(names)} files); fetch them")
    return [path / name for name in names]


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a safetensors file, from its header."""
    try:
        with open(file, "rb") as f:
            (size,) = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(size)) if size < 1 << 30 else {}
        header.pop("__metadata__", None)
        end = 8 + size + max(tensor["data_offsets"][1] for tensor in header.values())
        found = {name: (tensor["dtype"], tuple(tensor["shape"])) for name, tensor in header.items()}
    except (struct.error, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{file} is no safetensors file; fetch it again") from None
    if file.stat().st_size < end:
        raise InputError(f"{file} is cut off at {file.stat().st_size} of {end} bytes; fetch it again")
    for name, (dtype, _) in found.items():
        if dtype not in TYPES:
            raise InputError(f"{file}: {name} is of type {dtype}; choose the model in bfloat16")
    return {name: shape for name, (_, shape) in found.items()}


def _check_trained(folder: Folder, architecture: Architecture) -> None:
    values, where = folder.values, folder.path / CONFIG
    if values.get("model_type") != "qwen3":
        raise InputError(
            f"{where}: the trainer knows the architecture qwen3 (dense), not {values.get('model_type')}; choose "
            "another model.path, or train nothing (pipeline.rounds=0 training.cold_start.tasks=0)"
        )
    for name, fixed in FIXED.items():
        if values.get(name, fixed) != fixed:
            raise InputError(
                f"{where}: {name}={values[name]}, but the trainer knows only {fixed}; choose another model"
            )
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise InputError(f"{where}: the trainer knows plain rotary positions, not rope_type={kind}; take it out")
    if "sliding_attention" in (values.get("layer_types") or ()):
        raise InputError(f"{where}: the trainer knows full attention, not sliding windows; choose another model")
    theta = rope.get("rope_theta", values.get("rope_theta"))
    given = values | ({} if theta is None else {"rope_theta": theta})
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
    """The shapes of a dense Qwen3's tensors, by their HF names."""
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
    shard, parallel = model.shard, model.parallel
    longest = values.get("max_position_embeddings")
    if longest is not None and shard.max_model_len > longest:
        raise InputError(
            f"model.shard.max_model_len={shard.max_model_len} is beyond the {longest} positions "
            f"(max_position_embeddings) of {where}; lower it"
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
