"""Programs that tests run in a process of their own, and modules that other folders of tests bring along."""

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Card:
    """The GPU that tests use: the first that is visible.

    Attributes:
        visible: what CUDA_VISIBLE_DEVICES says to see this one alone.
        memory: bytes.
    """

    name: str
    visible: str
    memory: int


def of_tests(name: str) -> ModuleType:
    """A module of another folder of tests, such as `training/conftest`."""
    path = TESTS / f"{name}.py"
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # it imports its neighbours
    spec = importlib.util.spec_from_file_location(f"of_tests.{name.replace('/', '.')}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def alone(program: Path, *words: str, env: Mapping[str, str] | None = None) -> str:
    """Run `program` as the only rank, in a process of its own; returns what it printed."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    rank = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    exact = {
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "0"
    }  # NVIDIA's images set it to 1: float32 would be multiplied in TF32
    command = [sys.executable, str(program), *words]
    everything = {**os.environ, **exact, **rank, **(env or {})}
    done = subprocess.run(command, env=everything, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
