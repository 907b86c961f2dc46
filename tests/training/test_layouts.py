"""The trainer against transformers and torch's own AdamW, and in every layout against itself in one process."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from spans import spans_of
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

LAYOUTS = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1)]
CASES = [*LAYOUTS[:2], *(pytest.param(layout, marks=pytest.mark.deep) for layout in LAYOUTS[2:])]
EMBEDDINGS = ["untied", "tied"]


def name(layout):
    return "tp{}-pp{}-dp{}".format(*layout)


@pytest.fixture(params=CASES, ids=name)
def layout(request, in_layout):
    return in_layout(*request.param)


@pytest.fixture(params=EMBEDDINGS)
def tied(request):
    return request.param == "tied"


def weights(folder):
    return load_file(folder / "model.safetensors")


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


@pytest.mark.parametrize("yarn", [False, True], ids=["", "yarn"])
def test_logits_are_those_of_transformers(layout, tied, yarn, checkpoint, trajectories):
    """With YaRN at three times the positions of the training."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint(0, tied, yarn), dtype=torch.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(trajectories.tokens[None, :48].astype(np.int64))).logits.numpy()
    found = np.load(layout / ("tied" if tied else "untied") / f"logits{'-with-yarn' if yarn else ''}.npy")
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("yarn", [False, True], ids=["", "yarn"])
def test_log_probabilities_are_those_of_transformers(layout, tied, yarn, checkpoint, trajectories):
    found = np.load(layout / ("tied" if tied else "untied") / f"logprobs{'-with-yarn' if yarn else ''}.npy")
    model = AutoModelForCausalLM.from_pretrained(checkpoint(0, tied, yarn), dtype=torch.float32)
    expected = np.zeros_like(found)
    for begin, end in (span for e in range(len(trajectories)) for span in spans_of(trajectories, e)):
        ids = torch.from_numpy(trajectories.tokens[begin:end].astype(np.int64))
        with torch.no_grad():
            log_p = model(ids[None]).logits[0].log_softmax(-1)
        expected[begin + 1 : end] = log_p[torch.arange(len(ids) - 1), ids[1:]]
    expected[trajectories.mask == 0] = 0
    assert np.abs(found - expected).max() < 1e-4


def test_a_layout_changes_neither_losses_nor_weights(layout, tied, in_layout):
    kind = "tied" if tied else "untied"
    one, this = in_layout(*LAYOUTS[0]) / kind, layout / kind
    assert largest_difference(weights(one / "trained"), weights(this / "trained")) < 1e-5
    expected, found = (json.loads((folder / "metrics.json").read_text()) for folder in (one, this))
    assert len(found) == 4
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
    """The equations of the paper over whole batches, by transformers, torch.optim.AdamW and torch's clipping."""
    from in_layout import STEPS, TRAINING

    from aworld.training import algorithms, batching

    model = AutoModelForCausalLM.from_pretrained(checkpoint(0, tied), dtype=torch.float32)
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
            micro_batch_size=TRAINING.micro_batch_size,
            max_tokens=100,
            data_parallel=1,
            seed=(7, len(planned)),
        )
    losses = []
    for step in planned[:STEPS]:
        members = np.flatnonzero(step.weights[trajectories.context_offsets[:-1]])
        active = [e for e in members if advantage[e]]
        assert len(np.concatenate(step.contexts[0])) == sum(len(spans_of(trajectories, e)) for e in active)
        loss = torch.zeros(())
        for e in members:
            chosen = []
            for begin, end in spans_of(trajectories, e):
                ids = torch.from_numpy(trajectories.tokens[begin:end].astype(np.int64))
                sampled = torch.from_numpy(trajectories.mask[begin:end].astype(bool))[1:]
                old = torch.from_numpy(trajectories.logprobs[begin:end])[1:]
                new = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
                ratio = (new - old).exp().clamp(max=TRAINING.ratio_cap)
                clipped = ratio.clamp(1 - TRAINING.clip_low, 1 + TRAINING.clip_high)
                per_token = -torch.minimum(ratio * advantage[e], clipped * advantage[e])
                chosen.append(per_token[sampled])
            loss = loss + torch.cat(chosen).mean() / len(members)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), TRAINING.clip_grad)
        optimizer.step()
        losses.append(loss.item())
    folder = in_layout(*LAYOUTS[0]) / ("tied" if tied else "untied")
    found = json.loads((folder / "metrics.json").read_text())
    assert [step["loss"] for step in found] == pytest.approx(losses, abs=1e-5)
    expected = {key: value for key, value in model.state_dict().items() if not (tied and key == "lm_head.weight")}
    assert largest_difference(expected, weights(folder / "trained")) < 1e-5
