"""What a shard's answer may hold."""

import math

import pytest

from aworld.errors import InfrastructureError
from aworld.inference.client import check

pytestmark = pytest.mark.unit


def test_what_can_be_trained_on_is_taken() -> None:
    check([0, 511], [-30.0, 0.0], 512)
    check([], [], 512)


@pytest.mark.parametrize(
    ("token", "logprob", "message"),
    [
        (7, math.nan, "token 7 with a log-probability of nan"),
        (7, -math.inf, "log-probability of -inf"),
        (7, -9999.0, "log-probability of -9999.0"),  # which is -inf as vLLM writes it
        (7, 2.0, "log-probability of 2.0"),
        (512, -1.0, "token 512, of a vocabulary of 512"),
        (-1, -1.0, "token -1"),
    ],
)
def test_what_cannot_is_refused(token: int, logprob: float, message: str) -> None:
    with pytest.raises(InfrastructureError, match=message):
        check([1, token], [-1.0, logprob], 512)


def test_as_many_log_probabilities_as_tokens_are_asked_for() -> None:
    with pytest.raises(InfrastructureError, match="2 tokens and 1 log-probabilities"):
        check([1, 2], [-1.0], 512)
