"""One rank of the trainer in some parallel layout: everything that must not depend on the layout, written to files."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state

from aworld.config import Parallel, Training
from aworld.policies.writing import Writer
from aworld.training import algorithms, batching, checkpoint, cpu, model, output
from aworld.training import export as exporting
from aworld.training.attention import Packed
from aworld.training.checkpoint import Checkpoints, Position
from aworld.training.packing import Split, own_positions
from aworld.training.step import Trainer
from aworld.trajectories import arrays, file

STEPS, SAVED_AFTER = 4, 2
VOCABULARY = 24  # of the output that is compared with plain torch
# With Adam's usual epsilon an update is ±lr even where the gradient is nothing but rounding.
TRAINING = Training(
    options={"reference_kl": 0.05, "entropy_bonus": 0.01},
    clip_low=0.2,
    clip_high=0.28,
    lr=1e-3,
    adam_eps=1e-5,
    weight_decay=0.05,
    batch_size=6,
)


def main() -> None:
    words = json.loads(sys.argv[1])
    global TRAINING
    TRAINING = replace(TRAINING, micro_batch_tokens=words["tokens"])
    output.CHUNK = words["chunk"]
    output.KEPT = 2 * 4 * output.CHUNK * VOCABULARY  # of three chunks of the small output, two
    exporting.SHARE_BYTES = 1 << 18  # so that every rank writes
    model.initialize(Parallel(words["tensor"], words["pipeline"], words["context"]), 0, 300)
    trajectories = file.read(Path(words["trajectories"]))
    of_output = output_against_autograd()
    if dist.get_rank() == 0:
        (Path(words["out"]) / "output.json").write_text(json.dumps(of_output))
    for name, path in words["checkpoints"].items():
        out = Path(words["out"]) / name
        if dist.get_rank() == 0:
            out.mkdir()
        dist.barrier()
        run(Path(path), out, trajectories, words["recompute"])
        with_yarn = Trainer(TRAINING, Path(words["with_yarn"][name]), "float32", TRAINING.lr)
        predict(with_yarn, trajectories, out, "-with-yarn")
        other = Path(words["resume"]) / name
        if other != out and (other / "round-0001").exists():
            trainer = Trainer(TRAINING, Path(path), "float32", TRAINING.lr)
            checkpoint.load(trainer, other, Position(1))
            steps(trainer, Path(path), trajectories, SAVED_AFTER, STEPS)
            export(trainer, Path(path), out / "resumed-from-one-process")
    dist.destroy_process_group()


def run(path: Path, out: Path, trajectories: arrays.Trajectories, recompute: str) -> None:
    trainer = Trainer(TRAINING, path, "float32", TRAINING.lr, recompute=recompute)
    export(trainer, path, out / "round-trip")
    predict(trainer, trajectories, out)
    metrics = steps(trainer, path, trajectories, 0, SAVED_AFTER)
    checkpoints = Checkpoints(out, lambda _: None)
    checkpoints.save(trainer, Position(1), [])
    metrics += steps(trainer, path, trajectories, SAVED_AFTER, STEPS)  # while the state before them is written
    checkpoints.finish()
    export(trainer, path, out / "trained")
    reference = trainer.reference_logprobs(path, trajectories, 1.0)
    export(trainer, path, out / "after-reference")
    # A ratio of each context, over all ranks that hold a part of it, also where a part has no sampled token.
    metrics += steps(
        trainer, path, trajectories, 0, 1, replace(TRAINING, algorithm="gspo", options={"mask_above": 1.5})
    )
    again = Trainer(TRAINING, path, "float32", TRAINING.lr, recompute=recompute)
    checkpoint.load(again, out, Position(1))
    steps(again, path, trajectories, SAVED_AFTER, STEPS)
    export(again, path, out / "resumed")
    if dist.get_rank() == 0:
        np.save(out / "reference.npy", reference)
        (out / "metrics.json").write_text(json.dumps(metrics))


def steps(
    trainer: Trainer,
    base: Path,
    trajectories: arrays.Trajectories,
    first: int,
    last: int,
    training: Training | None = None,
) -> list[dict[str, float]]:
    """The steps [first, last) of as many passes over the trajectories as it takes; `base` is the reference policy."""
    reference = trainer.reference_logprobs(base, trajectories, 1.0)
    algorithm = algorithms.make(training or TRAINING)
    planned: list[batching.Step] = []
    while len(planned) < last:
        planned += batching.steps(
            trajectories,
            algorithm,
            batch_size=TRAINING.batch_size,
            micro_batch_tokens=TRAINING.micro_batch_tokens,
            max_tokens=100,
            data_parallel=parallel_state.get_data_parallel_world_size(),
            seed=(7, len(planned)),
        )
    rank, split = parallel_state.get_data_parallel_rank(), Split.here()
    return [
        trainer.step(batching.micro_batches(trajectories, step, rank, split, cpu.device(), reference), algorithm)
        for step in planned[first:last]
    ]


def export(trainer: Trainer, base: Path, out: Path) -> None:
    exporting.export_hf(trainer.module, base, out, Writer())
    dist.barrier()


def predict(trainer: Trainer, trajectories: arrays.Trajectories, out: Path, suffix: str = "") -> None:
    logits = forward(trainer, trajectories.tokens[:48])
    if logits is not None:
        np.save(out / f"logits{suffix}.npy", logits)
    logprobs = trainer.logprobs(trajectories)
    if dist.get_rank() == 0:
        np.save(out / f"logprobs{suffix}.npy", logprobs)


def forward(trainer: Trainer, tokens: np.ndarray) -> np.ndarray | None:
    """All logits [s, vocab] of a sequence, on the first rank of the last pipeline stage, else None."""
    ranks = parallel_state.get_context_parallel_world_size()
    starts = (0, len(tokens))
    own = own_positions(starts, ranks, parallel_state.get_context_parallel_rank())
    ids, positions = (torch.from_numpy(values[own].astype(np.int64)) for values in (tokens, np.arange(len(tokens))))
    packed = Packed.of(starts, ranks, ids.device)
    found = trainer.schedule(
        forward_step_func=lambda _, gpt: (
            gpt(ids[None], positions[None], None, packed_seq_params=packed),
            lambda hidden: (hidden.sum(), hidden),
        ),
        data_iterator=None,
        model=[trainer.model],
        num_microbatches=1,
        seq_length=0,
        micro_batch_size=0,
        forward_only=True,
    )
    if not found:
        return None
    policy = trainer.module
    hidden = found[0].detach()
    if policy.config.sequence_parallel:
        hidden = gathered(hidden, parallel_state.get_tensor_model_parallel_group(), 0)
    logits = hidden[:, 0] @ policy.output_weight.detach().T
    logits = gathered(logits, parallel_state.get_tensor_model_parallel_group(), 1)
    logits = gathered(logits, parallel_state.get_context_parallel_group(), 0)
    held = np.concatenate([own_positions(starts, ranks, rank) for rank in range(ranks)])
    ordered = np.empty_like(logits.numpy())
    ordered[held] = logits.numpy()
    is_first = parallel_state.get_tensor_model_parallel_rank() == parallel_state.get_data_parallel_rank() == 0
    return ordered if is_first and parallel_state.get_context_parallel_rank() == 0 else None


def output_against_autograd() -> dict[str, float]:
    """The largest differences of log-probabilities, entropies and their gradients from those of plain torch."""
    group = parallel_state.get_tensor_model_parallel_group()
    size, rank = group.size(), group.rank()
    random = torch.Generator().manual_seed(1)
    hidden, weight = (torch.randn(*shape, generator=random) for shape in ((41, 12), (VOCABULARY, 12)))
    targets, factors = torch.randint(VOCABULARY, (41,), generator=random), torch.randn(2, 41, generator=random)
    hidden.requires_grad_()
    weight.requires_grad_()
    expected_p = (hidden @ weight.T / 0.7).log_softmax(-1)
    expected = expected_p[torch.arange(41), targets], -(expected_p.exp() * expected_p).sum(-1)
    expected_gradients = torch.autograd.grad((torch.stack(expected) * factors).sum(), (hidden, weight))
    own = weight.detach().chunk(size)[rank].clone().requires_grad_()
    found = output.logprobs_and_entropies(hidden, own, targets, 0.7)
    of_hidden, of_weight = torch.autograd.grad((torch.stack(found) * factors).sum(), (hidden, own))
    dist.all_reduce(of_hidden, group=group)
    pairs = {
        "logprobs": (found[0], expected[0]),
        "entropies": (found[1], expected[1]),
        "of_hidden": (of_hidden, expected_gradients[0]),
        "of_weight": (of_weight, expected_gradients[1].chunk(size)[rank]),
    }
    return {name: (one - other).abs().max().item() for name, (one, other) in pairs.items()}


def gathered(part: torch.Tensor, group: dist.ProcessGroup, dim: int) -> torch.Tensor:
    parts = [torch.empty_like(part) for _ in range(group.size())]
    dist.all_gather(parts, part.contiguous(), group)
    return torch.cat(parts, dim)


if __name__ == "__main__":
    main()
