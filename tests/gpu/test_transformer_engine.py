"""What the trainer is built from with Transformer Engine and without it."""

import json

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

KINDS = ["untied", "tied"]
FUSED = ["bias_dropout_fusion", "apply_rope_fusion", "persist_layer_norm"]


def parts(folder, kind):
    return json.loads((folder / kind / "parts.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_without_it_the_trainer_is_megatron_s_local_layers_around_pytorch_s_attention(trained, megatron, kind):
    found = parts(trained("cuda", "bfloat16"), kind)
    assert found["attention"] == "aworld.training.attention.CausalAttention"
    assert found["linear"].startswith("megatron.core.tensor_parallel.")
    assert found["norm"] == "aworld.training.norm.RMSNorm"
    assert found["fused"] == [] and found["sequence_parallel"] is True
    assert found["adam"].startswith("torch.optim.")


@pytest.mark.parametrize("kind", KINDS)
def test_with_it_layers_and_adam_are_its_own(trained, transformer_engine, kind):
    found = parts(trained("cuda", "bfloat16", True), kind)
    assert found["attention"].endswith("FusedAttention")
    assert found["linear"].startswith("megatron.core.extensions.transformer_engine.")
    assert found["norm"].startswith("transformer_engine.")
    assert found["adam"].startswith("transformer_engine.")
    assert found["fused"] == FUSED and found["sequence_parallel"] is True
