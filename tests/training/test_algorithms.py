"""Each algorithm against a reference written here, in plain torch, from the equations of its paper."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aworld.config import Training
from aworld.errors import InputError
from aworld.training import algorithms
from aworld.training.algorithms import MicroBatch

pytestmark = pytest.mark.unit

REWARDS = st.lists(st.sampled_from([0.0, 1.0]) | st.floats(-1, 1, width=32), min_size=1, max_size=12)


def make(name: str, **changes: float) -> algorithms.Algorithm:
    return algorithms.make(Training(algorithm=name, **changes))


def batch(seed: int, ratio_spread: float = 0.5) -> tuple[MicroBatch, torch.Tensor]:
    """Ragged sampled tokens; and log-probabilities of the policy in training that ask for a gradient."""
    torch.manual_seed(seed)
    b, s = 5, 12
    sampled = torch.rand(b, s) < 0.6
    sampled[:, 0] = True
    old = torch.where(sampled, -torch.rand(b, s) * 3, 0.0)
    new = torch.where(sampled, old + torch.randn(b, s) * ratio_spread, 0.0).requires_grad_()
    advantages = torch.randn(b, 1)
    weights = sampled / sampled.sum()
    return MicroBatch(torch.zeros(b, s + 1, dtype=torch.long), sampled, old, advantages, weights), new


def total(algorithm, micro, new):
    loss, metrics = algorithm.loss(new, micro)
    assert all(value.shape == micro.sampled.shape for value in metrics.values())
    return (loss * micro.weights).sum()


def assert_same(found: torch.Tensor, expected: torch.Tensor, new: torch.Tensor) -> None:
    (one,) = torch.autograd.grad(found, new, retain_graph=True)
    (other,) = torch.autograd.grad(expected, new)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def each_token(micro, new, term):
    """Σ over sampled tokens, one by one, of weight · term(new, old, advantage)."""
    found = torch.zeros(())
    for i, t in micro.sampled.nonzero():
        found = found + micro.weights[i, t] * term(new[i, t], micro.logprobs[i, t], micro.advantages[i, 0])
    return found


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("seed", range(4))
def test_clipped_ratio(name, seed):
    micro, new = batch(seed)

    def term(p, old, a):
        r = torch.exp(p - old).clamp(max=2.0)
        return -torch.min(r * a, torch.clamp(r, 0.8, 1.28) * a)

    algorithm = make(name, clip_low=0.2, clip_high=0.28, ratio_cap=2.0)
    assert_same(total(algorithm, micro, new), each_token(micro, new, term), new)


@pytest.mark.parametrize("seed", range(4))
def test_rloo_is_reinforce_with_a_truncated_weight(seed):
    micro, new = batch(seed)

    def term(p, old, a):
        return -torch.exp(p - old).clamp(max=1.5).detach() * a * p

    assert_same(total(make("rloo", ratio_cap=1.5), micro, new), each_token(micro, new, term), new)


@pytest.mark.parametrize("seed", range(4))
def test_cispo_clips_the_weight_and_keeps_the_gradient(seed):
    micro, new = batch(seed)

    def term(p, old, a):
        return -torch.exp(p - old).clamp(0.8, 1.28).detach() * a * p

    algorithm = make("cispo", clip_low=0.2, clip_high=0.28, ratio_cap=1.1)  # which has no part in it
    found = total(algorithm, micro, new)
    assert_same(found, each_token(micro, new, term), new)
    (gradient,) = torch.autograd.grad(total(algorithm, micro, new), new)
    assert (gradient[micro.sampled] != 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_gspo_clips_the_sequence(seed):
    micro, new = batch(seed, ratio_spread=0.05)
    expected = torch.zeros(())
    for i in range(len(micro.sampled)):
        tokens = micro.sampled[i]
        s = torch.exp((new[i, tokens] - micro.logprobs[i, tokens]).sum() / tokens.sum())
        a = micro.advantages[i, 0]
        expected = expected - micro.weights[i].sum() * torch.min(s * a, torch.clamp(s, 0.99, 1.02) * a)
    assert_same(total(make("gspo", clip_low=0.01, clip_high=0.02), micro, new), expected, new)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("grpo", 0.8, 1.28), ("dapo", 0.8, 1.28), ("dr_grpo", 0.8, 1.28), ("gspo", 0.9997, 1.0004), ("cispo", 0.0, 1.28)],
)
def test_clips_as_its_paper_does_where_nothing_is_set(name, low, high):
    """The ratio at which a loss stops to change: below for a negative advantage, above for a positive one."""
    for advantage, bound in ((-1.0, low), (1.0, high)):
        ratios = torch.tensor([[max(bound, 1e-9) * 0.9999, bound * 1.0001 + 1e-9]]) if bound else torch.tensor([[1e-9]])
        for column in range(ratios.shape[1]):
            new = ratios[:, column : column + 1].log().requires_grad_()
            old, yes = torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool)
            micro = MicroBatch(torch.zeros(1, 2), yes, old, torch.full((1, 1), advantage), torch.ones(1, 1))
            _, metrics = make(name).loss(new, micro)
            is_outside = bool(bound) and (column == 0) == (advantage < 0)
            assert metrics["clip_fraction"].item() == float(is_outside), (advantage, column)


@pytest.mark.parametrize("advantage", [-1.0, 1.0])
@pytest.mark.parametrize("name", [name for name in algorithms.names() if name != "sft"])
def test_a_token_that_was_next_to_impossible_spoils_no_gradient(name, advantage):
    """exp(94) is no float32. The second token, an ordinary one, is the whole gradient."""
    new = torch.tensor([[-1.0, -0.5]], requires_grad=True)
    old, yes = torch.tensor([[-95.0, -0.5]]), torch.ones(1, 2, dtype=torch.bool)
    micro = MicroBatch(torch.zeros(1, 3), yes, old, torch.full((1, 1), advantage), torch.full((1, 2), 0.5))
    loss = total(make(name), micro, new)
    loss.backward()
    assert loss.isfinite() and new.grad.isfinite().all()
    assert algorithms.divergence(new, micro).isfinite().all()


def test_sft_is_the_mean_negative_log_likelihood():
    micro, new = batch(0)
    ones = torch.ones(len(micro.sampled), 1)
    micro = MicroBatch(micro.tokens, micro.sampled, micro.logprobs, ones, micro.weights)
    assert_same(total(make("sft"), micro, new), -new[micro.sampled].mean(), new)
    _, metrics = make("sft").loss(new, micro)
    row = micro.sampled[2]
    assert metrics["repeats"][2, 0].item() == pytest.approx(new[2, row].sum().exp().item())


@given(REWARDS)
def test_group_relative_advantages(rewards):
    rewards = np.array(rewards, np.float32)
    found = make("grpo").advantages(rewards)
    if len(set(rewards.tolist())) == 1:
        assert not found.any()
        return
    values = torch.from_numpy(rewards).double()
    expected = (values - values.mean()) / values.std(correction=0)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-9)
    centred = make("dr_grpo").advantages(rewards)
    np.testing.assert_allclose(centred, (values - values.mean()).numpy(), rtol=1e-6, atol=1e-9)


@given(REWARDS)
def test_leave_one_out_advantages(rewards):
    found = make("rloo").advantages(np.array(rewards, np.float32))
    for i, own in enumerate(rewards):
        others = rewards[:i] + rewards[i + 1 :]
        expected = own - np.mean(others) if others and len(set(rewards)) > 1 else 0.0
        assert found[i] == pytest.approx(expected, abs=1e-6)


def test_a_misspelt_algorithm_lists_the_valid_ones():
    with pytest.raises(InputError, match=r"training\.algorithm=grop is not there; valid: cispo, dapo, dr_grpo, grpo"):
        make("grop")
