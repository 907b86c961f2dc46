"""Each algorithm and term against a reference written here, in plain torch, from the equations of its paper."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aworld import plugins
from aworld.config import CONFIGS, Training
from aworld.errors import InputError
from aworld.training import algorithms
from aworld.training.algorithms import Group
from aworld.training.micro_batch import MicroBatch

pytestmark = pytest.mark.unit

REWARDS = st.lists(st.sampled_from([0.0, 1.0]) | st.floats(-1, 1, width=32), min_size=1, max_size=9)
GROUPS = st.lists(REWARDS, min_size=1, max_size=3)
EPISODES = st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 9))  # a reward and a length
RATIOS = [name for name in algorithms.names() if name != "sft"]


def make(name: str, **changes: Any) -> algorithms.Algorithm:
    return algorithms.make(Training(algorithm=name, **changes))


def packed(old: torch.Tensor, advantages: torch.Tensor, weights: torch.Tensor, context: torch.Tensor) -> MicroBatch:
    """A micro-batch of these sampled tokens, [n] each; the tokens themselves are of no matter."""
    none = torch.zeros(len(old), dtype=torch.long)
    starts = torch.arange(int(context.max()) + 2, dtype=torch.int32)
    return MicroBatch(none, none, starts, none, none, old, advantages, weights, context, none)


def batch(seed: int, ratio_spread: float = 0.5) -> tuple[MicroBatch, torch.Tensor]:
    """Contexts of different lengths; and log-probabilities of the policy in training that ask for a gradient."""
    torch.manual_seed(seed)
    context = torch.repeat_interleave(torch.arange(5), torch.tensor([1, 9, 4, 12, 7]))
    old = -torch.rand(len(context)) * 3
    new = (old + torch.randn(len(context)) * ratio_spread).requires_grad_()
    return packed(old, torch.randn(5)[context], (torch.rand(5) / 10)[context], context), new


def loss_of(algorithm, micro, new, entropy=None):
    entropy = torch.zeros_like(new) if entropy is None else entropy
    loss, metrics = algorithm.loss(new, entropy, micro)
    assert loss.shape == new.shape and all(value.shape == new.shape for value in metrics.values())
    return (loss * micro.weights).sum()


def assert_same(found: torch.Tensor, expected: torch.Tensor, *leaves: torch.Tensor) -> None:
    ours = torch.autograd.grad(found, leaves, retain_graph=True)
    theirs = torch.autograd.grad(expected, leaves, retain_graph=True)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def each_token(micro, new, term):
    """Σ over sampled tokens, one by one, of weight · term(new, old, advantage)."""
    found = torch.zeros(())
    for t in range(len(new)):
        found = found + micro.weights[t] * term(new[t], micro.logprobs[t], micro.advantages[t])
    return found


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo", "reinforce_plus_plus"])
@pytest.mark.parametrize("seed", range(4))
def test_clipped_ratio_with_dual_clip(name, seed):
    """Ye et al., arXiv 1912.09729, eq. 5: where A < 0, max(min(r A, clip(r) A), c A)."""
    micro, new = batch(seed)

    def term(p, old, a):
        r = torch.exp(p - old)
        objective = torch.minimum(r * a, torch.clamp(r, 0.8, 1.28) * a)
        return -(torch.maximum(objective, 1.5 * a) if a < 0 else objective)

    algorithm = make(name, clip_low=0.2, clip_high=0.28, ratio_cap=1.5)
    assert ((new - micro.logprobs).exp() > 1.5)[micro.advantages < 0].any()
    assert_same(loss_of(algorithm, micro, new), each_token(micro, new, term), new)


@pytest.mark.parametrize("seed", range(4))
def test_rloo_is_reinforce_with_a_truncated_weight(seed):
    micro, new = batch(seed)

    def term(p, old, a):
        return -torch.exp(p - old).clamp(max=1.5).detach() * a * p

    assert_same(loss_of(make("rloo", ratio_cap=1.5), micro, new), each_token(micro, new, term), new)


@pytest.mark.parametrize("seed", range(4))
def test_cispo_clips_the_weight_and_keeps_the_gradient(seed):
    micro, new = batch(seed)

    def term(p, old, a):
        return -torch.exp(p - old).clamp(0.8, 1.28).detach() * a * p

    algorithm = make("cispo", clip_low=0.2, clip_high=0.28, ratio_cap=1.1)  # which has no part in it
    found = loss_of(algorithm, micro, new)
    assert_same(found, each_token(micro, new, term), new)
    (gradient,) = torch.autograd.grad(found, new)
    assert (gradient != 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_gspo_clips_the_sequence(seed):
    micro, new = batch(seed, ratio_spread=0.05)
    expected = torch.zeros(())
    for i in range(5):
        tokens = micro.context == i
        s = torch.exp((new[tokens] - micro.logprobs[tokens]).sum() / tokens.sum())
        a = micro.advantages[tokens][0]
        expected = expected - micro.weights[tokens].sum() * torch.min(s * a, torch.clamp(s, 0.99, 1.02) * a)
    assert_same(loss_of(make("gspo", clip_low=0.01, clip_high=0.02), micro, new), expected, new)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        *[("grpo", 0.8, 1.28), ("dapo", 0.8, 1.28), ("dr_grpo", 0.8, 1.28), ("reinforce_plus_plus", 0.8, 1.2)],
        *[("gspo", 0.9997, 1.0004), ("cispo", 0.0, 1.28)],
    ],
)
def test_clips_as_its_paper_does_where_nothing_is_set(name, low, high):
    """The ratio at which a loss stops to change: below for a negative advantage, above for a positive one."""
    for advantage, bound in ((-1.0, low), (1.0, high)):
        for is_above, ratio in enumerate([bound * 0.9999, bound * 1.0001] if bound else [1e-9]):
            one = torch.ones(1)
            micro = packed(0 * one, advantage * one, one, torch.zeros(1, dtype=torch.long))
            _, metrics = make(name).loss((ratio * one).log(), one, micro)
            is_outside = bool(bound) and is_above == (advantage > 0)
            assert metrics["clip_fraction"].item() == float(is_outside), (advantage, ratio)


@pytest.mark.parametrize("advantage", [-1.0, 1.0])
@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("options", [{}, {"reference_kl": 0.1, "mask_above": 4.0}])
def test_a_token_that_was_next_to_impossible_spoils_no_gradient(name, options, advantage):
    """exp(94) is no float32. The second token, an ordinary one, is the whole gradient."""
    new = torch.tensor([-1.0, -0.5], requires_grad=True)
    old = torch.tensor([-95.0, -0.5])
    micro = packed(old, torch.full((2,), advantage), torch.full((2,), 0.5), torch.arange(2))
    micro = replace(micro, reference=torch.tensor([-95.0, -0.7]))
    loss = loss_of(make(name, options=options), micro, new)
    loss.backward()
    assert loss.isfinite() and new.grad.isfinite().all()
    assert algorithms.divergence(new, micro).isfinite().all()
    one_that_it_unlearned = torch.tensor([-95.0, -0.5], requires_grad=True)
    loss = loss_of(
        make(name, options=options), replace(micro, reference=torch.tensor([-1.0, -0.7])), one_that_it_unlearned
    )
    loss.backward()
    assert loss.isfinite() and one_that_it_unlearned.grad.isfinite().all()


def test_sft_is_the_mean_negative_log_likelihood():
    micro, new = batch(0)
    micro = replace(micro, advantages=torch.ones(len(new)), weights=torch.full((len(new),), 1 / len(new)))
    assert_same(loss_of(make("sft"), micro, new), -new.mean(), new)
    _, metrics = make("sft").loss(new, torch.zeros_like(new), micro)
    one = micro.context == 2
    assert metrics["repeats"][one].tolist() == pytest.approx([new[one].sum().exp().item()] * 4)


@pytest.mark.parametrize("name", RATIOS)
def test_divergence_and_entropy_are_added_to_the_loss(name):
    """With whole distributions: entropy by torch.distributions, k3 by its definition, gradients down to the logits."""
    micro, _ = batch(1)
    logits = torch.randn(len(micro.context), 6, requires_grad=True)
    tokens = torch.randint(0, 6, (len(micro.context),))
    policy = torch.distributions.Categorical(logits=logits)
    new = policy.log_prob(tokens)
    micro = replace(micro, logprobs=(new + torch.randn(len(new)) * 0.3).detach(), reference=torch.randn(len(new)) - 2)
    q = torch.exp(micro.reference) / torch.exp(new)
    terms = (micro.weights * (0.3 * (q - torch.log(q) - 1) - 0.7 * policy.entropy())).sum()

    algorithm = make(name, options={"reference_kl": 0.3, "entropy_bonus": 0.7})
    found = loss_of(algorithm, micro, new, -(logits.log_softmax(-1).exp() * logits.log_softmax(-1)).sum(-1))
    assert_same(found, loss_of(make(name), micro, new) + terms, logits)
    _, metrics = algorithm.loss(new, policy.entropy(), micro)
    torch.testing.assert_close(metrics["reference_kl"], q - torch.log(q) - 1, atol=1e-6, rtol=1e-5)
    assert algorithm.needs_reference and algorithm.entropy_has_gradient
    assert not make(name).needs_reference and not make(name).entropy_has_gradient


def test_the_estimate_of_the_divergence_has_the_right_expectation():
    """Over all tokens of a vocabulary, each as often as the policy samples it: KL(π‖π_ref)."""
    torch.manual_seed(0)
    policy, reference = (torch.distributions.Categorical(logits=torch.randn(50)) for _ in range(2))
    new, zeros = policy.logits, torch.zeros(50)
    micro = replace(packed(new, zeros, zeros, zeros.long()), reference=reference.logits)
    _, metrics = make("grpo", options={"reference_kl": 1.0}).loss(new, zeros, micro)
    expected = torch.distributions.kl_divergence(policy, reference)
    torch.testing.assert_close((policy.probs * metrics["reference_kl"]).sum(), expected)


@pytest.mark.parametrize("ratio", ["product", "mean"])
@pytest.mark.parametrize("name", RATIOS)
def test_a_context_far_from_its_sampling_policy_carries_no_loss(name, ratio):
    micro, new = batch(3)
    kept = []
    for i in range(5):
        ratios = [
            math.exp(now - was)
            for now, was, c in zip(new.tolist(), micro.logprobs.tolist(), micro.context, strict=True)
            if c == i
        ]
        found = math.prod(ratios)
        found = found if ratio == "product" else found ** (1 / len(ratios))
        kept.append(0.9 <= found <= 1.1 if ratio == "mean" else 0.3 <= found <= 2.0)
    assert 0 < sum(kept) < 5
    limits = {"mask_below": 0.9, "mask_above": 1.1} if ratio == "mean" else {"mask_below": 0.3, "mask_above": 2.0}
    algorithm = make(name, options={"mask_ratio": ratio, **limits})
    weights = micro.weights * torch.tensor([float(kept[c]) for c in micro.context])
    expected = loss_of(make(name), replace(micro, weights=weights), new)
    assert_same(loss_of(algorithm, micro, new), expected, new)
    _, metrics = algorithm.loss(new, torch.zeros_like(new), micro)
    assert metrics["masked_fraction"].tolist() == [float(not kept[c]) for c in micro.context]


def groups_of(rewards: list[list[float]], lengths: list[list[int]] | None = None) -> list[Group]:
    lengths = lengths or [[10] * len(group) for group in rewards]
    return [
        Group(np.array(values, np.float32), np.array(counts), np.array(["answered"] * len(values)))
        for values, counts in zip(rewards, lengths, strict=True)
    ]


@given(GROUPS)
@settings(max_examples=50)
def test_group_relative_advantages(rewards):
    groups = groups_of(rewards)
    standardised, centred = make("grpo").advantages(groups), make("dr_grpo").advantages(groups)
    for values, one, other in zip(rewards, standardised, centred, strict=True):
        if len(set(values)) == 1:
            assert not one.any() and not other.any()
            continue
        wanted = torch.tensor(values, dtype=torch.float64)
        wanted = wanted - wanted.mean()
        np.testing.assert_allclose(one, (wanted / wanted.std(correction=0)).numpy(), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(other, wanted.numpy(), rtol=1e-6, atol=1e-9)


@given(REWARDS)
@settings(max_examples=50)
def test_leave_one_out_advantages(rewards):
    (found,) = make("rloo").advantages(groups_of([rewards]))
    for i, own in enumerate(rewards):
        others = rewards[:i] + rewards[i + 1 :]
        expected = own - np.mean(others) if others and len(set(rewards)) > 1 else 0.0
        assert found[i] == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.lists(EPISODES, min_size=1, max_size=4), min_size=1, max_size=3), st.sampled_from(["none", "group"]))
@settings(max_examples=80)
def test_reinforce_plus_plus_standardises_over_all_tokens_of_the_round(played, baseline):
    """Each token's advantage written out, and standardised as a plain sample."""
    rewards, lengths = ([[pair[i] for pair in group] for group in played] for i in (0, 1))
    algorithm = make("reinforce_plus_plus", options={"baseline": baseline})
    found = algorithm.advantages(groups_of(rewards, lengths))
    tokens = []
    for values, counts in zip(rewards, lengths, strict=True):
        off = sum(values) / len(values) if baseline == "group" else 0.0
        tokens += [value - off for value, count in zip(values, counts, strict=True) for _ in range(count)]
    each = torch.tensor(tokens, dtype=torch.float64)
    expected = (each - each.mean()) / each.std(correction=0) if max(tokens) > min(tokens) else 0 * each
    ours = np.concatenate([np.repeat(part, counts) for part, counts in zip(found, lengths, strict=True)])
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-9)


def test_a_round_without_a_group_has_no_advantages():
    for name in algorithms.names():
        assert make(name).advantages([]) == []


@pytest.mark.parametrize("name", RATIOS)
def test_overlong_episodes_lose_reward(name):
    """DAPO, arXiv 2503.14476, eq. 13, with the paper's L_max = 20,480 and L_cache = 4,096."""
    lengths, rewards = [1, 16384, 17408, 20480, 30000], [1.0, 0.0, 1.0, 1.0, 0.0]
    penalties = [0.0, 0.0, (20480 - 4096 - 17408) / 4096, -1.0, -1.0]
    shaped = [reward + penalty for reward, penalty in zip(rewards, penalties, strict=True)]
    algorithm = make(name, options={"overlong_from": 16384, "overlong_until": 20480})
    (found,) = algorithm.advantages(groups_of([rewards], [lengths]))
    (expected,) = make(name).advantages(groups_of([shaped], [lengths]))
    np.testing.assert_allclose(found, expected)


def test_dapo_leaves_out_a_group_of_equal_rewards_whatever_its_lengths():
    for name, learns in (("dapo", False), ("grpo", True)):
        algorithm = make(name, options={"overlong_from": 10, "overlong_until": 20})
        (found,) = algorithm.advantages(groups_of([[0.0, 0.0]], [[5, 15]]))
        assert found.any() == learns


def test_a_misspelt_algorithm_lists_the_valid_ones():
    with pytest.raises(InputError, match=r"training\.algorithm=grop is not there; valid: cispo, dapo, dr_grpo, grpo"):
        make("grop")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "grpo",
            {"kl": 0.1},
            r"training\.options\.kl: grpo has no such option; valid: entropy_bonus, .*, reference_kl",
        ),
        ("grpo", {"clip_low": 0.1}, r"training\.options\.clip_low: grpo has no such option"),
        ("grpo", {"baseline": "group"}, r"training\.options\.baseline: grpo has no such option"),
        ("sft", {"reference_kl": 0.1}, r"training\.options\.reference_kl: sft has no such option; valid: none"),
        ("grpo", {"reference_kl": "much"}, r"training\.options: 'reference_kl': Value 'much' of type 'str' could not"),
        ("grpo", {"overlong_from": 0.5}, r"training\.options: 'overlong_from': Value '0\.5' of type 'float' could not"),
        ("grpo", {"reference_kl": -1}, r"training\.options\.reference_kl=-1\.0 cannot be; it has to be at least 0"),
        ("rloo", {"entropy_bonus": math.nan}, r"training\.options\.entropy_bonus=nan cannot be"),
        ("grpo", {"mask_above": 0}, r"training\.options\.mask_above=0\.0 cannot be; it has to be at least 1"),
        ("grpo", {"mask_ratio": "max"}, r"training\.options\.mask_ratio=max is not there; valid: product, mean"),
        ("grpo", {"mask_below": 1, "mask_above": 1}, r"mask_below=1 leaves nothing below mask_above=1; lower it"),
        ("dapo", {"overlong_from": 9}, r"overlong_from=9, overlong_until=None: .* give both"),
        ("dapo", {"overlong_from": 9, "overlong_until": 9}, r"overlong_from=9, overlong_until=9: .* the second larger"),
        ("reinforce_plus_plus", {"baseline": "mean"}, r"training\.options\.baseline=mean is not there; valid: none"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(name, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make(name, options=options)
    assert "\n" not in str(caught.value)


def test_a_cap_that_cuts_what_the_clip_allows_is_refused():
    with pytest.raises(
        InputError, match=r"training\.ratio_cap=1\.2 .* up to 1 \+ training\.clip_high = 1\.28; raise it"
    ):
        make("grpo", ratio_cap=1.2)
    make("grpo", ratio_cap=1.28)


def test_an_option_that_is_null_has_its_default():
    """So that the options of one algorithm can be emptied for another."""
    assert make("sft", options={"reference_kl": None}) == make("sft")
    assert make("grpo", options={"reference_kl": None}) == make("grpo")


def test_a_launcher_checks_the_options_without_torch():
    program = (
        "import sys; from aworld.config import Training; from aworld.training import algorithms;"
        "[algorithms.make(Training(algorithm=name)) for name in algorithms.names()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=300).returncode == 0


@pytest.fixture
def own() -> str:
    """The example of the documents."""
    page = (CONFIGS.parent / "docs" / "your-own-parts.md").read_text()
    (text,) = re.findall(r"```python\n(# /home/me/scaled.py.*?)```", page, re.DOTALL)
    return text


def test_an_algorithm_of_ones_own_is_a_file_anywhere(own, tmp_path):
    path = tmp_path / "scaled.py"
    path.write_text(own)
    made = make(str(path), options={"scale": 2.0}, clip_low=0.1)
    assert made.advantage(np.array([0.0, 1.0])).tolist() == [-1.0, 1.0] and made.clip_low == 0.1
    with pytest.raises(InputError, match=r"training\.options\.scale=-1\.0 cannot be"):
        make(str(path), options={"scale": -1.0})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"has no make"),
        ("def make(training): return 1 / 0", r"its make\(training\) failed: ZeroDivisionError"),
        ("def make(training): return training", r"Training has no normalisation; add it"),
        (None, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_a_file_that_is_no_algorithm_is_refused(text, fault, tmp_path):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rf"training\.algorithm={path}.*{fault}"):
        make(str(path))


def test_a_run_trains_with_its_copy_of_the_file(own, tmp_path):
    path, copies = tmp_path / "scaled.py", tmp_path / "run" / "own"
    path.write_text(own)
    training = Training(algorithm=str(path))
    plugins.keep({"training.algorithm": training.algorithm}, copies)
    path.unlink()
    assert algorithms.make(training, copies).scale == 1.0
