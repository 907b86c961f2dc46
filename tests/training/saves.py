"""One rank of a trainer. It saves while it trains, is told to end within a step, and prints the outcome as JSON."""

import json
import re
import sys
from pathlib import Path

import in_layout
import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state

from aworld.config import Parallel
from aworld.publish import damaged, marked_files
from aworld.training import algorithms, batching, checkpoint, cpu, model
from aworld.training.checkpoint import Checkpoints
from aworld.training.packing import Split
from aworld.training.position import Position
from aworld.training.step import Trainer
from aworld.training.watched import Abandoned
from aworld.trajectories import file


def main(path: Path, trajectories: Path, out: Path, pipeline: int) -> None:
    model.initialize(Parallel(1, pipeline, 1), 0, 300)
    training = in_layout.TRAINING
    algorithm = algorithms.make(training)
    rounds = file.read(trajectories)
    trainer = make(path)
    ranks, rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    reference = trainer.reference_logprobs(path, rounds)
    steps = [
        batching.steps(
            rounds, algorithm, batch_size=20, micro_batch_tokens=1, max_tokens=100, data_parallel=ranks, seed=(seed,)
        )[0]
        for seed in range(2)
    ]
    batches = [batching.micro_batches(rounds, step, rank, Split.here(), cpu.device(), reference) for step in steps]
    found = {"micro_batches": len(batches[1]), "loss": trainer.step(batches[0], algorithm)["loss"]}

    checkpoints = Checkpoints(out, lambda _: None)
    before = copies(trainer)
    checkpoints.save(trainer, Position(1, 1), [{"loss": 1.0}])
    at_change = []
    settle = trainer.settle
    trainer.settle = lambda: (settle(), at_change.append(same(before, copies(trainer))))
    trainer.step(batches[1], algorithm)  # while a thread copies and writes
    found["waits_for_the_copy"] = at_change == [True] and not same(before, copies(trainer))
    checkpoints.finish()
    again, read = make(path), bytes_read()
    found["metrics"] = checkpoint.load(again, out, Position(1, 1))
    read = bytes_read() - read
    found["is_exact"] = same(before, copies(again))
    place = out / Position(1, 1).name
    found["share_read"] = read / sum(file.stat().st_size for file in place.iterdir())
    mine = [name for name in marked_files(place) if name.startswith(f"__{dist.get_rank()}_")]
    found["sound"] = damaged(place) == [] and len(mine) == 1

    begun = 0

    def told() -> bool:
        """The last rank is told to end while it begins its second micro-batch; the others hear nothing."""
        nonlocal begun
        begun += 1
        return begun >= 2 and dist.get_rank() == dist.get_world_size() - 1

    try:
        again.step(batches[1], algorithm, ends_soon=told)
        found["abandoned"] = False
    except Abandoned:
        found["abandoned"] = True
    found["is_unchanged"] = same(before, copies(again))
    loss = again.step(batches[1], algorithm, ends_soon=lambda: False)["loss"]
    other = make(path)
    checkpoint.load(other, out, Position(1, 1))
    found["goes_on"] = loss == other.step(batches[1], algorithm)["loss"] and same(copies(other), copies(again))
    found["opens_megatrons"] = opens_megatrons(path, out, other)
    (out / f"rank-{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def opens_megatrons(path: Path, out: Path, trainer: Trainer) -> bool:
    """Whether a checkpoint that Megatron writes in its own layout, weights and all, gives the same state."""
    layout = {
        "distrib_optim_sharding_type": "fully_reshardable",
        "distrib_optim_fully_reshardable_mem_efficient": False,
        "chained_optim_avoid_prefix": True,
        "singleton_local_shards": False,
        "dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True),
    }
    weights = trainer.module.sharded_state_dict(metadata=layout)
    state = {"model": weights, "optimizer": trainer.optimizer.sharded_state_dict(weights, metadata=layout)}
    place = out / Position(1, 2).name
    if dist.get_rank() == 0:
        place.mkdir()
        (place / checkpoint.METRICS).touch()
    dist.barrier()
    dist_checkpointing.save(state, str(place))
    again = make(path)
    checkpoint.load(again, out, Position(1, 2))
    return same(copies(trainer), copies(again))


def bytes_read() -> int:
    return int(re.findall(r"rchar: (\d+)", Path("/proc/self/io").read_text())[0])


def make(path: Path) -> Trainer:
    return Trainer(in_layout.TRAINING, path, "float32", in_layout.TRAINING.lr)


def live(trainer: Trainer) -> list[torch.Tensor]:
    """The weights, and what Adam keeps of this rank's share of them."""
    parts = getattr(trainer.optimizer, "chained_optimizers", [trainer.optimizer])
    states = [state for part in parts for state in part.optimizer.state.values()]
    tensors = [value for state in states for value in state.values() if torch.is_tensor(value) and value.dim()]
    assert tensors
    return [*(parameter.data for parameter in trainer.module.parameters()), *tensors]


def copies(trainer: Trainer) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in live(trainer)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
