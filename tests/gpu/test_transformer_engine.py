"""What the trainer is built from with Transformer Engine and without it."""

import json

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

KINDS = ["untied", "tied"]
FUSED = ["bias_activation_fusion", "bias_dropout_fusion", "apply_rope_fusion", "persist_layer_norm"]


def parts(folder, kind):
    return json.loads((folder / kind / "parts.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_without_it_the_trainer_is_megatron_s_local_layers_around_pytorch_s_attention(trained, megatron, kind):
    """Each layer then holds all of its sequence: no sequence parallelism, whose norms Transformer Engine brings."""
    found = parts(trained("cuda", "bfloat16"), kind)
    assert found["attention"] == "aworld.training.model.CausalAttention"
    assert found["linear"].startswith("megatron.core.tensor_parallel.")
    assert found["fused"] == [] and found["sequence_parallel"] is False
    assert "transformer_engine" not in found["adam"]


@pytest.mark.parametrize("kind", KINDS)
def test_with_it_layers_are_its_own_and_sequence_parallelism_is_on(trained, transformer_engine, kind):
    found = parts(trained("cuda", "bfloat16", True), kind)
    for part in ("attention", "linear"):
        assert found[part].startswith("megatron.core.extensions.transformer_engine.")
    assert found["norm"].startswith("transformer_engine.")
    assert found["adam"].startswith("transformer_engine.")
    assert found["fused"] == FUSED and found["sequence_parallel"] is True
