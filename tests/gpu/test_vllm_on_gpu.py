"""vLLM in bf16 on a GPU: it starts on its own one, takes new weights in place, and agrees with the trainer.

The policies are tiny and have learned to answer (`learned.py`). Transformers in float32 on the CPU is the reference.
"""

import asyncio
import json
import re
from functools import cache
from pathlib import Path

import pytest
from programs import alone
from serving import differences, serve, write

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

TIED = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
BF16 = 0.01  # mean, nats: six times what transformers in bf16 differs from float32 on a CPU
ABSENT = "63"  # in CUDA_VISIBLE_DEVICES: a GPU that no node has
MISMATCH = 0.015  # mean |Δ| at which prime-rl stops


@pytest.fixture(scope="module")
def served(config, learned, card, vllm, tmp_path_factory):
    """`served(tied)`, by the first of two tasks of a node that has two GPUs, as its job's variables say."""

    @cache
    def run(tied):
        log = tmp_path_factory.mktemp("vllm") / "vllm.log"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUDA_VISIBLE_DEVICES", f"{card.visible},{ABSENT}")
            patch.setenv("SLURM_LOCALID", "0")
            return asyncio.run(serve(config.model, learned(0, tied), learned(1, tied), log))

    return run


@TIED
def test_it_samples_from_the_policy(served, learned, tied):
    samples = served(tied).before
    assert {sample.completion.policy_version for sample in samples} == {0}
    own = differences(learned(0, tied), samples)
    assert len(own) > 300 and own.mean() < BF16


@TIED
def test_it_samples_from_the_next_policy_after_a_load_in_place(served, learned, tied):
    samples = served(tied).after
    assert {sample.completion.policy_version for sample in samples} == {1}
    assert differences(learned(1, tied), samples).mean() < BF16
    assert differences(learned(0, tied), samples).mean() > 10 * BF16  # the old weights would show


def test_the_processes_of_a_shard_see_its_own_gpu_alone(served, card):
    """Each has one of the two devices that the variable names here, and some of them hold a GPU open."""
    processes = served(False).processes
    assert {process.visible for process in processes} == {card.visible}
    assert any(re.fullmatch(r"/dev/nvidia\d+", device) for process in processes for device in process.devices)


def test_a_shard_whose_gpu_is_not_there_does_not_take_another(config, learned, card, vllm, monkeypatch, tmp_path):
    """The second task of the node: its GPU is the one that is absent."""
    from aworld.errors import InfrastructureError

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{card.visible},{ABSENT}")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    with pytest.raises(InfrastructureError, match="vLLM ended while starting"):
        asyncio.run(serve(config.model, learned(0), learned(0), tmp_path / "vllm.log"))
    assert re.search(r"CUDA|[Nn]o .*GPU|device type", (tmp_path / "vllm.log").read_text())


@TIED
@pytest.mark.parametrize("fused", [False, True], ids=["local layers", "Transformer Engine"])
def test_the_trainer_gives_sampled_tokens_the_same_log_probabilities(
    served, learned, tied, fused, megatron, tmp_path, request
):
    """Both in bf16 on the GPU, by kernels of their own."""
    import numpy as np

    from aworld.trajectories import file

    if fused:
        request.getfixturevalue("transformer_engine")
    write(tmp_path / "sampled.h5", served(tied).before)
    words = {
        "dtype": "bfloat16",
        "out": str(tmp_path),
        "policies": {"policy": [str(learned(0, tied)), str(tmp_path / "sampled.h5")]},
        "steps": 0,
        "hide_transformer_engine": not fused,
    }
    alone(Path(__file__).with_name("trainer_on.py"), json.dumps(words))
    sampled, found = file.read(tmp_path / "sampled.h5"), np.load(tmp_path / "policy" / "logprobs.npy")
    difference = np.abs(sampled.logprobs - found)[sampled.mask == 1]
    assert len(difference) > 300 and difference.mean() < MISMATCH
