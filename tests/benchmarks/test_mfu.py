"""The FLOPs and bytes that a step should cost against PyTorch's counts, and the benchmark on this machine's CPU."""

import json
from pathlib import Path

import pytest
import warm

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "mfu.py"


@pytest.fixture
def stack(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    from layer_stack import Stack

    return Stack


def qwen3(stack, device):
    """The same sizes in transformers."""
    import torch
    from layer_stack import hf_config
    from transformers import Qwen3ForCausalLM

    with torch.device(device):
        return Qwen3ForCausalLM._from_config(hf_config(stack), attn_implementation="eager")


@pytest.mark.unit
@pytest.mark.parametrize("tokens", [16, 96])
def test_flops_are_those_that_pytorch_counts(stack, tokens):
    """PyTorch counts all of the s × s scores, the formula their causal half."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shape = stack(layers=3, hidden=48, ffn=104, heads=6, kv_heads=2, head_dim=8, vocab=72)
    model = qwen3(shape, "cpu")
    ids = torch.arange(tokens)[None] % shape.vocab
    with FlopCounterMode(display=False) as counter:
        model(ids).logits.sum().backward()
    half_of_scores = 3 * 2 * tokens**2 * shape.heads * shape.head_dim * shape.layers
    assert counter.get_total_flops() == shape.flops(tokens) + half_of_scores


@pytest.mark.unit
def test_the_shape_is_that_of_qwen3_32b(stack):
    whole = stack(layers=64, vocab=151936)
    assert whole.parameters == sum(p.numel() for p in qwen3(whole, "meta").parameters())
    assert whole.parameters == pytest.approx(32.76e9, rel=1e-4)


@pytest.mark.unit
def test_layers_of_transformer_engine_keep_what_was_measured_of_them(stack):
    """31.5 kB per token and layer on each of eight tensor ranks, 266.8 kB on one alone: counted in the trainer's own
    autograd under fake tensors, with norms and attention that keep what Transformer Engine's keep.

    The eight groups of heads of one rank make q a copy; a rank that has one group needs none.
    """

    def kept(**sizes):
        one, two = (stack(layers=n, **sizes).kept_bytes(1000, 1, fused=True) for n in (1, 2))
        return (two - one) / 1000

    assert kept(hidden=5120 // 8, ffn=25600 // 8, heads=8, kv_heads=1) == pytest.approx(31.5e3, rel=0.01)
    assert kept() == pytest.approx(266.8e3, rel=0.005)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("tokens", "contexts", "recompute"),
    [(64, 1, "selective"), (40, 3, "none"), pytest.param(40, 3, "full", marks=pytest.mark.deep)],
)
def test_it_runs_on_a_cpu(tokens, contexts, recompute):
    words = [
        "--shape",
        "tiny",
        "--layers",
        "3",
        "--tokens",
        str(tokens),
        "--micro-batch",
        str(contexts),
        "--steps",
        "2",
        "--recompute",
        recompute,
    ]
    (done,) = warm.run(PROGRAM, *words, "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert (found["device"], found["peak"], found["mfu"]) == ("CPU", None, None)
    matrices = 3 * (64 * (128 + 2 * 32) + 128 * 64 + 3 * 64 * 160) + 128 * 64
    assert found["flops"] == contexts * (6 * matrices * tokens + 6 * tokens**2 * 8 * 16 * 3)
    assert found["flops_per_second"] > 0 and 0 < found["of_matmul"] < 1
    assert found["kept"] == found["predicted_kept"]  # autograd's own list of kept tensors, byte for byte
