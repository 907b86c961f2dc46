"""The GPU and what else a test may need, each with its reason to skip; checkpoints, and the trainer's results."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from programs import Card, alone, of_tests

PROGRAM = Path(__file__).with_name("trainer_on.py")
STEPS = 2
# Multiplies the tiny model's logits: they then deviate by about 2 nats, and bf16 rounding shows in log-probabilities.
# A power of two, so that the weights stay bf16 numbers.
SHARPER = 2


@pytest.fixture(scope="session")
def card() -> Card:
    """The GPU."""
    import torch

    from aworld.containers import GPU_DRIVER

    if not torch.cuda.is_available():
        if GPU_DRIVER.exists() and not torch.version.cuda:
            pytest.skip(f"torch {torch.__version__} is not built for CUDA; make test-gpu GPU_PYTHON=…")
        if GPU_DRIVER.exists():
            pytest.skip(f"{GPU_DRIVER} is there, but CUDA does not work in torch {torch.__version__}")
        pytest.skip("no NVIDIA GPU here")
    properties = torch.cuda.get_device_properties(0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    return Card(properties.name, visible, properties.total_memory)


def package(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"no {name} here")


@pytest.fixture(scope="session")
def megatron(card: Card) -> None:
    """What the trainer needs."""
    package("megatron")
    package("mbridge")


@pytest.fixture(scope="session")
def transformer_engine(megatron: None) -> None:
    package("transformer_engine")


@pytest.fixture(scope="session")
def vllm(card: Card) -> None:
    """A vLLM built for CUDA: the CPU's is another distribution, or says so in its version."""
    try:
        version = importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no vLLM built for CUDA here")
    if "cpu" in version:
        pytest.skip(f"vLLM {version} is not built for CUDA")


@pytest.fixture(scope="session")
def apptainer(card: Card) -> None:
    from aworld.containers import no_apptainer

    if reason := no_apptainer():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def policy(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`policy(seed, tied)`: a tiny HF folder whose weights are bf16 numbers, kept as float32.

    A trainer in bf16 and one in fp32 start from the same weights: they differ by their arithmetic alone.
    """
    from safetensors.torch import load_file

    @cache
    def make(seed: int = 0, tied: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("policy") / "hf"
        shutil.copytree(checkpoint(seed, tied), folder)
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] *= SHARPER
        save(weights, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def learned(checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`learned(seed, tied)`: as `policy`, of weights that were trained for a moment."""
    from learned import learn

    @cache
    def make(seed: int = 0, tied: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("learned") / "hf"
        shutil.copytree(checkpoint(seed, tied), folder)
        save(learn(folder, seed), folder)
        return folder

    return make


def save(weights: dict[str, Any], folder: Path) -> None:
    """Write the weights of an HF folder, rounded to bf16."""
    from safetensors.torch import save_file

    rounded = {name: value.bfloat16().float() for name, value in weights.items()}
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="session")
def trained(policy: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`trained(device, dtype, fused=False)`: the folder with what `trainer_on.py` made of both policies.

    Args:
        device: `cpu`, in a process that sees no GPU, or `cuda`.
        fused: with Transformer Engine.
    """
    from aworld.trajectories import file

    root = tmp_path_factory.mktemp("trained")
    policies = {}
    for name in ("untied", "tied"):
        folder = policy(0, name == "tied")
        file.write(root / f"{name}.h5", of_tests("training/conftest").make_trajectories(folder))
        policies[name] = [str(folder), str(root / f"{name}.h5")]

    @cache
    def run(device: str, dtype: str, fused: bool = False) -> Path:
        out = tmp_path_factory.mktemp(f"{device}-{dtype}{'-fused' if fused else ''}")
        words: dict[str, Any] = {
            "dtype": dtype,
            "out": str(out),
            "policies": policies,
            "steps": STEPS,
            "hide_transformer_engine": not fused,
        }
        alone(PROGRAM, json.dumps(words), env={"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else None)
        return out

    return run


@pytest.fixture(scope="session")
def of_training() -> Any:
    """The settings of training that `trainer_on.py` uses."""
    return of_tests("training/in_layout").TRAINING
