"""The arithmetic of a rank's memory against steps of the real trainer, measured under fake tensors."""

from functools import cache

import pytest

from aworld import config as configuration
from aworld.config import Config
from aworld.models.support import tensors
from aworld.planning.memory import OVERHEAD, memory, stage_parameters
from aworld.planning.shapes import kv_bytes, matmul_parameters, parameters

pytestmark = pytest.mark.unit


@cache
def qwen(*overrides: str) -> Config:
    return configuration.load(["recipe=grpo", "site=example", "model=qwen3-32b", "model.path=null", *overrides])


@pytest.mark.parametrize("tied", ["true", "false"])
def test_parameters_are_those_of_the_checkpoint(tied: str) -> None:
    a = qwen(f"model.architecture.tie_word_embeddings={tied}").model.architecture
    shapes = tensors(a)
    count = sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes.values())
    assert parameters(a) == count
    matrices = sum(s[0] * s[1] for name, s in shapes.items() if len(s) == 2 and "embed" not in name)
    assert matmul_parameters(a) == matrices + (a.vocab_size * a.hidden_size if tied == "true" else 0)


def test_a_token_of_qwen3_32b_takes_a_quarter_of_a_mebibyte_of_cache() -> None:
    """Keys and values of 64 layers, 8 heads of 128, two bytes each; a GPU holds one head at least."""
    a = qwen().model.architecture
    assert [kv_bytes(a, "bfloat16", tensor) for tensor in (1, 4, 8, 16)] == [262_144, 65_536, 32_768, 32_768]


def test_parameters_of_a_rank_are_those_that_megatron_makes() -> None:
    """Counted in GPTModel of TP 8 × PP 4, on the first stage and the last."""
    config = qwen()
    assert [stage_parameters(config, stage) for stage in (0, 3)] == [1_072_582_656, 1_072_587_776]


@pytest.mark.parametrize(
    ("recompute", "tokens", "counted"),
    [
        ("none", 16384, 56.0),
        ("selective", 16384, 36.2),
        ("full", 16384, 21.9),
        ("none", 40960, 111.2),
        ("selective", 40960, 61.7),
        ("full", 40960, 25.9),
    ],
)
def test_peaks_are_those_of_a_step(recompute: str, tokens: int, counted: float) -> None:
    """GB of stage 0 at the peak of a step, as benchmarks/fake_memory.py counts them."""
    config = qwen(
        f"model.recompute={recompute}", f"model.shard.max_model_len={tokens}", f"training.micro_batch_tokens={tokens}"
    )
    assert (memory(config)[0].needed - OVERHEAD) / 1e9 == pytest.approx(counted, rel=0.02)


def test_context_ranks_share_activations_and_the_optimizer() -> None:
    alone, shared = memory(qwen())[0], memory(qwen("model.parallel.context_parallel_size=2", "site.train.nodes=8"))[0]
    assert alone.activations / 2 < shared.activations < 0.7 * alone.activations  # keys and values are gathered
    assert shared.optimizer == alone.optimizer / 2
    assert (shared.weights, shared.gradients) == (alone.weights, alone.gradients)


def test_replicas_share_the_optimizer_alone() -> None:
    alone, shared = memory(qwen())[0], memory(qwen("site.train.nodes=16"))[0]
    assert shared.optimizer == alone.optimizer / 4 and shared.activations == alone.activations


def test_an_offloaded_optimizer_makes_room_for_activations() -> None:
    held, offloaded = memory(qwen())[0], memory(qwen("model.offload_optimizer=true"))[0]
    assert offloaded.needed == pytest.approx(held.needed - held.optimizer)
    short = memory(qwen("model.offload_optimizer=true", "model.recompute=full", "model.shard.max_model_len=1024"))[1]
    row = short.activations + short.communication + max(short.layer, short.logits)
    assert row < short.optimizer  # so its step is the peak
    assert short.needed == pytest.approx(short.weights + short.gradients + short.optimizer + OVERHEAD)


def test_the_longest_row_counts() -> None:
    budget, context = qwen("training.micro_batch_tokens=81920"), qwen("training.micro_batch_tokens=4096")
    assert memory(budget)[0].activations == 2 * memory(context)[0].activations


def test_logits_are_on_the_last_stage_and_small() -> None:
    found = memory(qwen("model.shard.max_model_len=40960"))
    assert [stage.logits > 0 for stage in found] == [False, False, False, True]
    whole = 40960 * 151936 / 8 * (2 + 2 * 4)  # of all tokens: in bf16, in float32, and the gradient
    assert found[3].logits < 0.25 * whole
