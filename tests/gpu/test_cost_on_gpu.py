"""What a training step on layers of Qwen3-32B's shapes costs on one GPU, in memory and in time."""

import json
import sys
from functools import cache
from pathlib import Path

import pytest
from programs import alone

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]
# What CUDA, cuBLAS and PyTorch hold on the card beside the tensors, bytes.
BESIDE = 3 << 30
LAYERS = 2


@pytest.fixture(
    scope="module",
    params=[(4096, "none"), (4096, "selective"), (40960, "none"), (40960, "full")],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def found(request, step_of):
    return step_of(*request.param)


@pytest.fixture(scope="module")
def step_of(card, megatron):
    """`step_of(tokens, recompute)`: the figures of `mfu.py`."""
    sys.path.insert(0, str(BENCHMARKS))
    from layer_stack import Stack

    @cache
    def run(tokens, recompute):
        stack = Stack(LAYERS)
        kept = stack.kept_bytes(tokens, 1, False, recompute)
        needed = stack.state_bytes + kept + stack.transient_bytes(tokens, False, recompute) + BESIDE
        if needed > card.memory:
            have = f"{card.name} has {card.memory / 1e9:.0f} GB"
            pytest.skip(f"{have}; {LAYERS} layers at {tokens} tokens need {needed / 1e9:.0f} GB")
        words = ["--layers", LAYERS, "--tokens", tokens, "--steps", 3, "--recompute", recompute, "--json"]
        return json.loads(alone(BENCHMARKS / "mfu.py", *map(str, words)).splitlines()[-1])

    return run


def test_weights_gradients_and_optimizer_take_18_bytes_a_parameter(found):
    layer = 5120 * (64 + 2 * 8) * 128 + 64 * 128 * 5120 + 3 * 5120 * 25600 + 2 * 5120 + 2 * 128
    parameters = LAYERS * layer + 5120 + 2 * 1024 * 5120
    assert found["parameters"] == parameters
    # Above: cuBLAS's workspace, the micro-batch.
    assert 18 * parameters <= found["state"] < 1.02 * 18 * parameters


def test_layers_keep_the_activations_that_were_predicted(found):
    """At the end of the layers' forward pass, before anything is freed.

    The formula is that of `layer_stack.py` for the layers in use. A test on the CPU compares it, byte for byte, with
    the tensors that autograd keeps of local layers. Those of Transformer Engine were not counted so.
    """
    within = 0.1 if found["transformer_engine"] else 0.03
    assert found["kept"] == pytest.approx(found["predicted_kept"], rel=within)


def test_the_peak_is_within_what_was_predicted(found):
    """At least the state and the kept activations, at most also what one layer's backward pass holds for a moment.

    The scores of 64 heads over 40,960 × 40,960 positions would be 215 GB: attention that held them would not fit.
    """
    state, kept = found["predicted_state"], found["predicted_kept"]
    within = 0.9 if found["transformer_engine"] else 0.97
    assert within * (state + kept) < found["peak_backward"] < 1.02 * (state + kept + found["predicted_transient"])
    assert found["peak_optimizer"] < 1.1 * 18 * found["parameters"]  # Adam makes no temporary tensors


def test_flops_are_the_formula_s_and_below_the_peak(found):
    """No bound on the time: it is this card's, and recorded by `benchmarks/mfu.py`."""
    matrices = LAYERS * (5120 * (64 + 2 * 8) * 128 + 64 * 128 * 5120 + 3 * 5120 * 25600) + 1024 * 5120
    tokens = found["tokens"]
    assert found["flops"] == 6 * matrices * tokens + 6 * tokens**2 * 64 * 128 * LAYERS
    assert 0 < found["of_matmul"] <= 1.05  # the layers' are such matmuls and more; 5 % for a clock that varies
    if found["peak"] is None:
        pytest.skip(f"the peak of {found['device']} is not in benchmarks/mfu.py")
    assert 0 < found["mfu"] <= 1
    assert found["matmul_flops_per_second"] <= found["peak"]


def test_attention_in_bf16_has_a_kernel_that_holds_no_scores(card, megatron):
    """The trainer's own attention, where Transformer Engine is not there, with only that kernel allowed."""
    found = json.loads(alone(Path(__file__).with_name("attention.py"), "pytorch").splitlines()[-1])
    assert 0 < found["bytes"] < 0.5 * found["scores"]
