"""What the trainer says of what it runs without."""

import pytest

from aworld.training.model import missing

pytestmark = pytest.mark.engine


def test_a_gpu_without_transformer_engine_is_told_of_and_nothing_else() -> None:
    assert "Transformer Engine is not installed" in missing(gpu=True, transformer_engine=False)
    assert missing(gpu=True, transformer_engine=True) == missing(gpu=False, transformer_engine=False) == ""
