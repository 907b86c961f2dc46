import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aworld.config import Training
from aworld.training import algorithms, batching
from aworld.training.packing import Split, own_positions
from aworld.trajectories import file
from aworld.trajectories.arrays import COLUMNS, CONTEXT, Trajectories, offsets_of

pytestmark = pytest.mark.unit

NAMES = ["grpo", "dapo", "dr_grpo", "rloo", "gspo", "cispo", "sft"]
STATUSES = [b"answered", b"no_answer", b"max_turns", b"max_tokens", b"timeout", b"infra_error"]


@st.composite
def rounds(draw) -> Trajectories:
    """Any round: groups of any size, episodes of any length and of up to three contexts, some without a sampled token
    or without any."""
    count = draw(st.integers(1, 14))
    rows = np.zeros(count, COLUMNS)
    rows["task_id"] = [draw(st.sampled_from([b"a", b"b", b"c"])) for _ in range(count)]
    rows["reward"] = [draw(st.sampled_from([0.0, 1.0])) for _ in range(count)]
    rows["status"] = [draw(st.sampled_from(STATUSES)) for _ in range(count)]
    rows["seconds_total"] = 100.0
    rows["seconds_stalled"] = [draw(st.sampled_from([0.0, 5.0, 50.0])) for _ in range(count)]
    masks = [draw(st.lists(st.integers(0, 1), max_size=9)) for _ in range(count)]
    mask = np.array([bit for row in masks for bit in row], np.uint8)
    tokens = np.arange(1, len(mask) + 1, dtype=np.int32)
    logprobs = np.where(mask, -0.25 * tokens, 0).astype(np.float32)
    starts = [[0, *sorted(draw(st.lists(st.integers(0, len(m)), max_size=2)))] for m in masks]
    contexts = np.array([(b"a", start) for row in starts for start in row], CONTEXT)
    lengths, counts = (offsets_of(np.array([len(row) for row in rows])) for rows in (masks, starts))
    return Trajectories(1, tokens, mask, logprobs, lengths, rows, contexts, counts)


def make(name: str) -> algorithms.Algorithm:
    return algorithms.make(Training(algorithm=name))


def plan(trajectories, algorithm, data_parallel=1, seed=(0,), batch_size=4):
    return batching.steps(
        trajectories,
        algorithm,
        batch_size=batch_size,
        micro_batch_tokens=12,
        max_tokens=50,
        data_parallel=data_parallel,
        seed=seed,
    )


def sampled_of(trajectories, episode) -> list[int]:
    """Positions of sampled tokens that something predicts."""
    return [at for context in contexts_of(trajectories, episode) for at in sampled_in(trajectories, context)]


def contexts_of(trajectories, episode) -> range:
    return range(*trajectories.context_offsets[episode : episode + 2])


def begin_of(trajectories, context) -> int:
    (episode,) = (e for e in range(len(trajectories)) if context in contexts_of(trajectories, e))
    return int(trajectories.offsets[episode] + trajectories.contexts["start"][context])


def sampled_in(trajectories, context) -> list[int]:
    last = context + 1 == len(trajectories.contexts)
    end = len(trajectories.tokens) if last else begin_of(trajectories, context + 1)
    return [at for at in range(begin_of(trajectories, context) + 1, end) if trajectories.mask[at]]


@given(rounds())
def test_what_the_machine_spoiled_carries_no_loss_and_is_in_no_group(trajectories):
    table = trajectories.episodes
    found = batching.advantages(trajectories, make("grpo"))

    def is_lost(e: int) -> bool:
        late = table["status"][e] == b"timeout" and table["seconds_stalled"][e] == 50.0
        return late or table["status"][e] == b"infra_error"

    usable = [e for e in range(len(trajectories)) if not is_lost(e) and sampled_of(trajectories, e)]
    for e in range(len(trajectories)):
        if e not in usable:
            assert np.isnan(found[e])
            continue
        group = [table["reward"][o] for o in usable if table["task_id"][o] == table["task_id"][e]]
        spread = np.std(group)
        assert found[e] == pytest.approx((table["reward"][e] - np.mean(group)) / spread if spread else 0.0, abs=1e-6)


@pytest.mark.parametrize(("stalled", "counts"), [(0.0, True), (9.0, True), (60.0, False)])
def test_a_policy_that_runs_out_of_time_is_punished_unless_the_machine_took_it(stalled, counts):
    rows = np.zeros(8, COLUMNS)
    rows["task_id"], rows["attempt"], rows["seconds_total"] = b"t", range(8), 100.0
    rows["status"] = [b"answered"] * 2 + [b"timeout"] * 6
    rows["seconds_stalled"] = [0.0] * 2 + [stalled] * 6
    rows["reward"] = [1.0] * 2 + [0.0] * 6
    mask = np.tile(np.array([0, 1, 1], np.uint8), 8)
    tokens = np.arange(24, dtype=np.int32)
    trajectories = Trajectories(1, tokens, mask, -mask.astype(np.float32), offsets_of(np.full(8, 3)), rows)
    found = batching.advantages(trajectories, make("grpo"))
    if counts:
        assert (found[:2] > 0).all() and (found[2:] < 0).all()
    else:
        assert (found[:2] == 0).all() and np.isnan(found[2:]).all()
    assert np.isfinite(batching.advantages(trajectories, make("grpo"), stalled_share=1.0)).all()


@given(rounds(), st.sampled_from(NAMES), st.integers(1, 3))
@settings(max_examples=200)
def test_steps_hold_every_episode_once_and_weigh_it_as_the_algorithm_says(trajectories, name, data_parallel):
    algorithm = make(name)
    advantage = batching.advantages(trajectories, algorithm)
    seen: list[int] = []
    for step in plan(trajectories, algorithm, data_parallel):
        assert len({len(cuts) for cuts in step.contexts}) == 1  # ranks run in step
        contexts = [int(c) for cuts in step.contexts for cut in cuts for c in cut]
        active = [e for e in range(len(trajectories)) if set(contexts_of(trajectories, e)) & set(contexts)]
        speaking = [c for e in active for c in contexts_of(trajectories, e) if sampled_in(trajectories, c)]
        assert sorted(contexts) == speaking
        assert active and all(advantage[e] not in (0.0,) for e in active)
        seen += active
        weights = step.weights[trajectories.context_offsets[:-1]]
        for e in range(len(trajectories)):
            assert set(step.weights[contexts_of(trajectories, e)]) == {weights[e]}
        members = np.flatnonzero(weights)
        assert set(active) <= set(members)
        lengths = np.array([len(sampled_of(trajectories, e)) for e in members])
        expected = {
            "token": np.full(len(members), 1 / lengths.sum()),
            "sequence": 1 / (len(members) * lengths),
            "constant": np.full(len(members), 1 / (len(members) * 50)),
        }[algorithm.normalisation]
        np.testing.assert_allclose(weights[members], expected)
    assert sorted(seen) == [
        e for e in range(len(trajectories)) if advantage[e] not in (0.0,) and advantage[e] == advantage[e]
    ]


@given(rounds(), st.integers(1, 3), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]))
def test_the_ranks_hold_the_tokens_as_they_were_sampled(trajectories, data_parallel, context, tensor):
    reference = np.arange(len(trajectories.tokens), dtype=np.float32) / 8
    for step in plan(trajectories, make("grpo"), data_parallel):
        for rank, cuts in enumerate(step.contexts):
            splits = [Split(tensor, context, number) for number in range(context)]
            shares = [
                batching.micro_batches(trajectories, step, rank, split, torch.device("cpu"), reference)
                for split in splits
            ]
            for cut, *parts in zip(cuts, *shares, strict=True):
                check_row(trajectories, step, cut, parts, reference)
                assert len(parts[0].tokens) % tensor == 0
                assert len({len(part.tokens) for part in parts}) == 1


@given(rounds())
@settings(max_examples=15, deadline=None)
def test_rows_that_stay_on_disk_make_the_same_micro_batches(tmp_path_factory, trajectories):
    path = tmp_path_factory.mktemp("rows") / "trajectories.h5"
    file.write(path, trajectories)
    some = [row for row in range(len(trajectories)) if row % 3]
    for own, stored in ((trajectories, file.open_(path)), (trajectories.select(some), file.open_(path).select(some))):
        steps = [plan(source, make("sft"), 2) for source in (own, stored)]
        for one, other in zip(*steps, strict=True):
            for rank in range(2):
                sides = [(own, one), (stored, other)]
                rows = [batching.micro_batches(*side, rank, Split(), torch.device("cpu")) for side in sides]
                for here, there in zip(*rows, strict=True):
                    assert here.starts == there.starts
                    for name, tensor in vars(here).items():
                        assert not isinstance(tensor, torch.Tensor) or torch.equal(tensor, getattr(there, name))


def check_row(trajectories, step, cut, parts, reference):
    """Each context is whole over the ranks, and each input predicts what followed it."""
    found = []
    for part in parts:
        if not part.weights.any():
            assert part.context.tolist() == [len(part.starts) - 1]  # in the sums of no context
            continue
        for n, at in enumerate(part.at.tolist()):
            context = cut[part.context[n]]
            place = begin_of(trajectories, context) + int(part.positions[at]) + 1
            assert part.tokens[at] == trajectories.tokens[place - 1]
            assert part.targets[n] == trajectories.tokens[place] and part.places[n] == place
            assert part.logprobs[n] == trajectories.logprobs[place] and part.reference[n] == reference[place]
            assert part.advantages[n].item() == pytest.approx(step.advantages[context])
            assert part.weights[n].item() == pytest.approx(step.weights[context])
            found.append(place)
    assert sorted(found) == sorted(at for context in cut for at in sampled_in(trajectories, context))
    row = {}
    for part, own in ((part, own_positions(part.starts, len(parts), rank)) for rank, part in enumerate(parts)):
        row |= dict(zip(own.tolist(), zip(part.tokens.tolist(), part.positions.tolist(), strict=True), strict=True))
    assert sorted(row) == list(range(parts[0].starts[-1]))
    for start, context in zip(parts[0].starts, cut, strict=False):
        begin = begin_of(trajectories, context)
        for i in range(sampled_in(trajectories, context)[-1] - begin):
            assert row[start + i] == (trajectories.tokens[begin + i], i)


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(1, 120), st.integers(1, 4))
def test_sequences_are_dealt_once_within_the_limit_and_evenly(lengths, most, ranks):
    shares = batching.deal(np.array(lengths, int), most, ranks)
    assert len(shares) == ranks and len({len(share) for share in shares}) == 1
    bins = [micro for share in shares for micro in share]
    assert all(len(micro) == 1 for micro in bins for index in micro if lengths[index] >= most)
    assert sorted(int(index) for micro in bins for index in micro) == list(range(len(lengths)))
    loads = sorted(sum(lengths[index] for index in micro) for micro in bins)
    assert loads == [] or loads[-1] <= max([most, *lengths])
    shared = [sum(lengths[index] for index in micro) for micro in bins if not any(lengths[i] >= most for i in micro)]
    # Longest first to the shortest never leaves a gap wider than the longest (Graham 1969).
    short = [length for length in lengths if length < most]
    assert max(shared, default=0) - min(shared, default=0) <= max(short, default=0)


@given(rounds())
def test_the_order_follows_from_the_seed(trajectories):
    def order(seed):
        return [[cut.tolist() for cut in step.contexts[0]] for step in plan(trajectories, make("grpo"), seed=seed)]

    assert order((3, 1)) == order((3, 1))


def test_another_seed_is_another_order():
    rows = np.zeros(40, COLUMNS)
    rows["task_id"], rows["status"], rows["reward"] = b"a", b"answered", np.arange(40) % 2
    mask = np.tile(np.array([0, 1, 1], np.uint8), 40)
    numbers = np.arange(120, dtype=np.int32)
    trajectories = Trajectories(1, numbers, mask, -mask.astype(np.float32), offsets_of(np.full(40, 3)), rows)
    one, other = (plan(trajectories, make("grpo"), seed=(s,), batch_size=8) for s in (1, 2))
    assert any(
        set(np.concatenate(a.contexts[0])) != set(np.concatenate(b.contexts[0]))
        for a, b in zip(one, other, strict=True)
    )


def test_an_algorithm_sees_rewards_lengths_and_statuses_of_each_group():
    class Algorithm:
        counts_zero_advantage = True

        def advantages(self, groups):
            self.seen = [tuple(part.tolist() for part in vars(group).values()) for group in groups]
            return [group.lengths / 8 for group in groups]

    rows = np.zeros(4, COLUMNS)
    rows["task_id"], rows["reward"] = [b"a", b"b", b"a", b"a"], [1, 0, 0.5, 1]
    rows["status"] = [b"answered", b"max_tokens", b"no_answer", b"infra_error"]
    mask = np.array([0, 1, 1, 1, 0, 1, 1, 0, 1, 0, 1], np.uint8)
    zeros = np.zeros(len(mask), np.float32)
    algorithm = Algorithm()
    trajectories = Trajectories(1, zeros.astype(np.int32), mask, zeros, np.array([0, 4, 7, 9, 11]), rows)
    found = batching.advantages(trajectories, algorithm)
    assert algorithm.seen == [([1, 0.5], [3, 1], ["answered", "no_answer"]), ([0], [2], ["max_tokens"])]
    np.testing.assert_array_equal(found, [3 / 8, 2 / 8, 1 / 8, np.nan])
