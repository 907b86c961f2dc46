"""The trainer against transformers and torch's own AdamW, and in every layout against itself in one process."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch
from layout import ONE_PROCESS, Layout
from safetensors.torch import load_file
from spans import spans_of
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

LAYOUTS = [
    ONE_PROCESS,
    Layout(tensor=2, context=2, recompute="full", tokens=40, chunk=16),
    Layout(tokens=128, chunk=16),
    Layout(tensor=2, pipeline=2, tokens=128, chunk=16),
    Layout(tensor=2, data=2, recompute="selective", tokens=128),
    Layout(pipeline=2, context=2, recompute="selective", tokens=128),
    Layout(context=2, data=2, recompute="full", chunk=16),
]
CASES = [*LAYOUTS[:2], *(pytest.param(layout, marks=pytest.mark.deep) for layout in LAYOUTS[2:])]
EMBEDDINGS = ["untied", "tied"]


def name(layout):
    return layout.name


@pytest.fixture(params=CASES, ids=name)
def layout(request, in_layout):
    return in_layout(request.param)


@pytest.fixture(params=EMBEDDINGS)
def tied(request):
    return request.param == "tied"


def weights(folder):
    """Those of an HF folder, whose files the ranks of a layout share."""
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max((one[key] - other[key]).abs().max().item() for key in one)


def test_weights_come_back_bit_for_bit(layout, tied, checkpoint):
    original, back = weights(checkpoint(0, tied)), weights(layout / ("tied" if tied else "untied") / "round-trip")
    assert original.keys() == back.keys()
    assert all(torch.equal(original[key], back[key]) for key in original)


def test_the_export_is_a_folder_that_transformers_opens(layout, tied, checkpoint):
    folder = layout / ("tied" if tied else "untied") / "trained"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.config.tie_word_embeddings == tied
    text = "<|im_start|>What is 2+2?<|im_end|>"
    assert AutoTokenizer.from_pretrained(folder)(text) == AutoTokenizer.from_pretrained(checkpoint())(text)


@pytest.fixture(scope="module")
def by_transformers(checkpoint, trajectories):
    """`by_transformers(tied, yarn)`: the logits of the first 48 tokens, and the log-probabilities of sampled tokens."""

    @cache
    @torch.no_grad()
    def compute(tied, yarn):
        model = AutoModelForCausalLM.from_pretrained(checkpoint(0, tied, yarn), dtype=torch.float32)
        logits = model(torch.from_numpy(trajectories.tokens[None, :48].astype(np.int64))).logits[0].numpy()
        logprobs = np.zeros(len(trajectories.tokens), np.float32)
        for begin, end in (span for e in range(len(trajectories)) for span in spans_of(trajectories, e)):
            ids = torch.from_numpy(trajectories.tokens[begin:end].astype(np.int64))
            log_p = model(ids[None]).logits[0].log_softmax(-1)
            logprobs[begin + 1 : end] = log_p[torch.arange(len(ids) - 1), ids[1:]]
        logprobs[trajectories.mask == 0] = 0
        return logits, logprobs

    return compute


@pytest.mark.parametrize("yarn", [False, True], ids=["", "yarn"])
def test_logits_are_those_of_transformers(layout, tied, yarn, by_transformers):
    """With YaRN at three times the positions of the training."""
    found = np.load(layout / ("tied" if tied else "untied") / f"logits{'-with-yarn' if yarn else ''}.npy")
    assert np.abs(found - by_transformers(tied, yarn)[0]).max() < 1e-4


@pytest.mark.parametrize("yarn", [False, True], ids=["", "yarn"])
def test_log_probabilities_are_those_of_transformers(layout, tied, yarn, by_transformers):
    found = np.load(layout / ("tied" if tied else "untied") / f"logprobs{'-with-yarn' if yarn else ''}.npy")
    expected = by_transformers(tied, yarn)[1]
    assert found.shape == expected.shape and np.abs(found - expected).max() < 1e-4


def test_the_output_and_its_gradients_are_those_of_plain_torch(layout):
    found = json.loads((layout / "output.json").read_text())
    assert len(found) == 4 and max(found.values()) < 1e-5, found


def test_a_reference_policy_takes_the_place_of_the_weights_for_the_time(layout, tied):
    folder = layout / ("tied" if tied else "untied")
    assert np.array_equal(np.load(folder / "reference.npy"), np.load(folder / "logprobs.npy"))
    trained, after = weights(folder / "trained"), weights(folder / "after-reference")
    assert all(torch.equal(trained[key], after[key]) for key in trained)


def test_a_layout_changes_neither_losses_nor_weights(layout, tied, in_layout):
    kind = "tied" if tied else "untied"
    one, this = in_layout(ONE_PROCESS) / kind, layout / kind
    assert largest_difference(weights(one / "trained"), weights(this / "trained")) < 1e-5
    expected, found = (json.loads((folder / "metrics.json").read_text()) for folder in (one, this))
    assert len(found) == 5
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        assert all(math.isclose(a[key], b[key], rel_tol=1e-4, abs_tol=1e-5) for key in a), (a, b)


def test_resuming_is_bit_equal(layout, tied):
    folder = layout / ("tied" if tied else "untied")
    trained, resumed = weights(folder / "trained"), weights(folder / "resumed")
    assert all(torch.equal(trained[key], resumed[key]) for key in trained)


@pytest.mark.parametrize("layout", CASES[1:], ids=name, indirect=True)
def test_resuming_in_another_layout_ends_at_the_same_weights(layout, tied):
    folder = layout / ("tied" if tied else "untied")
    assert largest_difference(weights(folder / "trained"), weights(folder / "resumed-from-one-process")) < 1e-5


def test_training_is_grpo_and_adamw_as_written_in_plain_torch(in_layout, tied, checkpoint, trajectories):
    """The equations of the paper over whole batches, by transformers, torch.optim.AdamW and torch's clipping.

    With a divergence from the first policy and the entropy in the loss.
    """
    from in_layout import STEPS, TRAINING

    from aworld.training import algorithms, batching

    model, first = (AutoModelForCausalLM.from_pretrained(checkpoint(0, tied), dtype=torch.float32) for _ in range(2))
    kl, bonus = TRAINING.options["reference_kl"], TRAINING.options["entropy_bonus"]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": TRAINING.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=TRAINING.lr,
        betas=(TRAINING.adam_beta1, TRAINING.adam_beta2),
        eps=TRAINING.adam_eps,
    )
    table = trajectories.episodes
    usable = np.flatnonzero(np.isin(table["status"], [b"timeout", b"infra_error"], invert=True))
    advantage = {}
    for e in usable:
        group = [table["reward"][o] for o in usable if table["task_id"][o] == table["task_id"][e]]
        deviation = table["reward"][e] - np.mean(group)
        advantage[e] = float(deviation / np.std(group)) if np.std(group) else 0.0
    planned: list[batching.Step] = []  # only the membership of the steps is taken from the trainer
    while len(planned) < STEPS:
        planned += batching.steps(
            trajectories,
            algorithms.make(TRAINING),
            batch_size=TRAINING.batch_size,
            micro_batch_tokens=TRAINING.micro_batch_tokens,
            max_tokens=100,
            data_parallel=1,
            seed=(7, len(planned)),
        )
    losses = []
    for step in planned[:STEPS]:
        members = np.flatnonzero(step.weights[trajectories.context_offsets[:-1]])
        assert len(np.concatenate(step.contexts[0])) == sum(len(spans_of(trajectories, e)) for e in members)
        loss = torch.zeros(())
        for e in members:
            chosen = []
            for begin, end in spans_of(trajectories, e):
                ids = torch.from_numpy(trajectories.tokens[begin:end].astype(np.int64))
                sampled = torch.from_numpy(trajectories.mask[begin:end].astype(bool))[1:]
                old = torch.from_numpy(trajectories.logprobs[begin:end])[1:]
                log_p = model(ids[None]).logits[0, :-1].log_softmax(-1)
                with torch.no_grad():
                    reference = first(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
                new = log_p.gather(1, ids[1:, None])[:, 0]
                ratio = (new - old).exp().clamp(max=TRAINING.ratio_cap)
                clipped = ratio.clamp(1 - TRAINING.clip_low, 1 + TRAINING.clip_high)
                per_token = -torch.minimum(ratio * advantage[e], clipped * advantage[e])
                per_token = per_token + kl * ((reference - new).exp() - 1 - (reference - new))
                per_token = per_token + bonus * (log_p.exp() * log_p).sum(-1)
                chosen.append(per_token[sampled])
            loss = loss + torch.cat(chosen).mean() / len(members)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), TRAINING.clip_grad)
        optimizer.step()
        losses.append(loss.item())
    folder = in_layout(ONE_PROCESS) / ("tied" if tied else "untied")
    found = json.loads((folder / "metrics.json").read_text())
    assert [step["loss"] for step in found[:STEPS]] == pytest.approx(losses, abs=1e-5)
    expected = {key: value for key, value in model.state_dict().items() if not (tied and key == "lm_head.weight")}
    assert largest_difference(expected, weights(folder / "trained")) < 1e-5
