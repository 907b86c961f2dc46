"""One rank of the trainer in some parallel layout: everything that must not depend on the layout, written to files."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state

from aworld.config import Parallel, Training
from aworld.training import algorithms, batching, checkpoint, conversion, cpu, model
from aworld.training.checkpoint import Position
from aworld.training.step import Trainer
from aworld.trajectories import arrays, file

STEPS, SAVED_AFTER = 4, 2
# With Adam's usual epsilon an update is ±lr even where the gradient is nothing but rounding.
TRAINING = Training(
    clip_low=0.2, clip_high=0.28, lr=1e-3, adam_eps=1e-5, weight_decay=0.05, batch_size=6, micro_batch_size=2
)


def main() -> None:
    words = json.loads(sys.argv[1])
    model.initialize(Parallel(words["tensor"], words["pipeline"]), 0, 300)
    trajectories = file.read(Path(words["trajectories"]))
    for name, path in words["checkpoints"].items():
        out = Path(words["out"]) / name
        if dist.get_rank() == 0:
            out.mkdir()
        dist.barrier()
        run(Path(path), out, trajectories)
        with_yarn = Trainer(TRAINING, Path(words["with_yarn"][name]), "float32", TRAINING.lr)
        predict(with_yarn, trajectories, out, "-with-yarn")
        other = Path(words["resume"]) / name
        if other != out and (other / "round-0001").exists():
            trainer = Trainer(TRAINING, Path(path), "float32", TRAINING.lr)
            checkpoint.load(trainer, other, Position(1))
            steps(trainer, trajectories, SAVED_AFTER, STEPS)
            export(trainer, Path(path), out / "resumed-from-one-process")
    dist.destroy_process_group()


def run(path: Path, out: Path, trajectories: arrays.Trajectories) -> None:
    trainer = Trainer(TRAINING, path, "float32", TRAINING.lr)
    export(trainer, path, out / "round-trip")
    predict(trainer, trajectories, out)
    metrics = steps(trainer, trajectories, 0, SAVED_AFTER)
    checkpoint.save(trainer, out, Position(1), [])
    metrics += steps(trainer, trajectories, SAVED_AFTER, STEPS)
    export(trainer, path, out / "trained")
    again = Trainer(TRAINING, path, "float32", TRAINING.lr)
    checkpoint.load(again, out, Position(1))
    steps(again, trajectories, SAVED_AFTER, STEPS)
    export(again, path, out / "resumed")
    if dist.get_rank() == 0:
        (out / "metrics.json").write_text(json.dumps(metrics))


def steps(trainer: Trainer, trajectories: arrays.Trajectories, first: int, last: int) -> list[dict[str, float]]:
    """The steps [first, last) of as many passes over the trajectories as it takes."""
    algorithm = algorithms.make(TRAINING)
    planned: list[batching.Step] = []
    while len(planned) < last:
        planned += batching.steps(
            trajectories,
            algorithm,
            batch_size=TRAINING.batch_size,
            micro_batch_size=TRAINING.micro_batch_size,
            max_tokens=100,
            data_parallel=parallel_state.get_data_parallel_world_size(),
            seed=(7, len(planned)),
        )
    rank = parallel_state.get_data_parallel_rank()
    return [
        trainer.step(batching.micro_batches(trajectories, step, rank, cpu.device()), algorithm)
        for step in planned[first:last]
    ]


def export(trainer: Trainer, base: Path, out: Path) -> None:
    if dist.get_rank() == 0:
        out.mkdir()
    conversion.export_hf(trainer.module, base, out if dist.get_rank() == 0 else None)
    dist.barrier()


def predict(trainer: Trainer, trajectories: arrays.Trajectories, out: Path, suffix: str = "") -> None:
    logits = forward(trainer, trajectories.tokens[None, :48])
    if logits is not None:
        np.save(out / f"logits{suffix}.npy", logits)
    logprobs = trainer.logprobs(trajectories, micro_batch_size=4)
    if dist.get_rank() == 0:
        np.save(out / f"logprobs{suffix}.npy", logprobs)


def forward(trainer: Trainer, tokens: np.ndarray) -> np.ndarray | None:
    """All logits [1, s, vocab] of a sequence, on the first rank of the last pipeline stage, else None."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    positions = torch.arange(ids.shape[1])[None]
    found = trainer.schedule(
        forward_step_func=lambda _, gpt: (gpt(ids, positions, None), lambda output: (output.sum(), output)),
        data_iterator=None,
        model=[trainer.model],
        num_microbatches=1,
        seq_length=0,
        micro_batch_size=0,
        forward_only=True,
    )
    if not found:
        return None
    group = parallel_state.get_tensor_model_parallel_group()
    parts = [torch.empty_like(found[0]) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, found[0].contiguous(), group)
    return torch.cat(parts, -1).detach().numpy() if dist.get_rank(group) == 0 else None


if __name__ == "__main__":
    main()
