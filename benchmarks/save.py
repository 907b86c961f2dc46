#!/usr/bin/env python
"""How long a save keeps training from going on, and how much each rank reads at a load.

    python benchmarks/save.py --keep                   # two replicas, a checkpoint of 494 MB, three minutes on 2 cores
    python benchmarks/save.py --hidden 64 --tokens 64  # that it runs

Each rank stands still while a save is begun, while the next optimizer step waits until the state is copied, and while
the save is marked complete. In all a save costs more: the writer takes cores from the steps. A save in the foreground
waits for the writing, and no step goes on beside it. The last lines do the arithmetic for a 32B model.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import results
from layer_stack import Stack, hf_config, micro_batch
from results import Figure

from aworld.errors import TaskError, guarded

RANKS = 2
BYTES = 12  # of a parameter in a checkpoint: its float32 value and two moments
# Of the arithmetic: parameters; ranks, TP 8 × PP 4 × DP 4; bytes a second of a rank's copy to pinned memory, and of the
# shared file system for all ranks; seconds of a step: NeMo-RL publishes 376 s for 32 GPUs; seconds of rank 0 to plan
# 37,000 pieces, as the first two saves of a process do, and to collect what was written
LARGE, WRITERS, COPY, FILE_SYSTEM, STEP, PLAN, COLLECT = 32.76e9, 128, 10e9, 10e9, 376 / 4, 3.2, 1.1
SAYS = (
    "Training stands still while a save is begun, until the state is copied, and while the save is marked complete. In "
    "all a save costs this and what the steps beside it take longer, up to the end of the writing. A save in the "
    "foreground waits for the writing. The seconds are those of the slower of two replicas, each beside those of the "
    "step before the save.",
)
BACKGROUND_LOSES = (
    f"On {os.cpu_count()} cores, where {RANKS} ranks compute, a save in the background costs more than one in the "
    "foreground: its writer takes cores from the step. It pays where the writing takes long."
)
BACKGROUND_WINS = "Here a save in the background costs less than one in the foreground."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=1024, help="of each of a step's micro-batches")
    parser.add_argument("--micro-batches", type=int, default=4, help="of each replica in a step")
    parser.add_argument("--saves", type=int, default=3, help="that are timed, after two that are not")
    parser.add_argument("--folder", type=Path, help="stands for the shared file system (default: a new one in TMPDIR)")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    words = parser.parse_args()
    if words.folder and not words.folder.is_dir():
        parser.error(f"--folder {words.folder} is no folder")
    if words.hidden % 64:
        parser.error(f"--hidden {words.hidden} is no multiple of 64")
    if "RANK" in os.environ:
        rank(words, Path(os.environ["SAVE_FOLDER"]))
        return
    with tempfile.TemporaryDirectory(dir=words.folder) as folder:
        make_model(stack_of(words), Path(folder) / "model")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "SAVE_FOLDER": folder}
        done = subprocess.run([*launcher, __file__, *sys.argv[1:]], env=environment)
        if done.returncode:
            raise TaskError(f"a replica ended with exit code {done.returncode}; the lines above say why")
        ranks = [json.loads((Path(folder) / f"rank-{number}.json").read_text()) for number in range(RANKS)]
    report(ranks)
    if words.keep:
        title = f"Save of a checkpoint of {ranks[0]['files'] / 1e6:.0f} MB by {RANKS} replicas"
        results.keep("save", title, [*SAYS, verdict(ranks)], figures(ranks), ["torch", "megatron-core"])


def stack_of(words: argparse.Namespace) -> Stack:
    return Stack(words.layers, words.hidden, 3 * words.hidden, words.hidden // 64, 1, 64, 1024, 4096)


def make_model(stack: Stack, folder: Path) -> None:
    import torch
    from transformers import Qwen3ForCausalLM

    Qwen3ForCausalLM._from_config(hf_config(stack), dtype=torch.bfloat16).save_pretrained(folder)


def rank(words: argparse.Namespace, folder: Path) -> None:
    """One replica: steps alone, steps with a save behind them, saves in the foreground, a load."""
    import torch.distributed as dist

    from aworld.config import Parallel, Training
    from aworld.training import algorithms, checkpoint, model
    from aworld.training.checkpoint import Checkpoints
    from aworld.training.position import Position
    from aworld.training.step import Trainer

    model.initialize(Parallel(), 0, 300)
    stack = stack_of(words)
    make = partial(Trainer, Training(), folder / "model", "bfloat16", 1e-6)
    trainer, batch = make(), micro_batch(stack, words.tokens, 1)
    algorithm = algorithms.make(Training())
    checkpoints = Checkpoints(folder, lambda _: None)
    waits: list[float] = []
    number = 0

    def step() -> float:
        return timed(lambda: trainer.step([batch] * words.micro_batches, algorithm))

    def save() -> float:
        nonlocal number
        number += 1
        begun = timed(lambda: checkpoints.save(trainer, Position(1, number), []))
        settle = trainer.settle if hasattr(trainer, "settle") else lambda: None
        trainer.settle = lambda: waits.append(timed(settle))
        return begun

    def any_writes() -> bool:
        return bool(checkpoint.any_rank(checkpoints.is_writing)[0])

    step()
    rows = []
    for at in range(2 + words.saves):
        alone = step()
        begun = save()
        beside = [step()]
        while any_writes():
            beside.append(step())
        ended = timed(checkpoints.finish)
        waited = sum(waits)
        waits.clear()
        if at >= 2:  # before that Megatron plans anew, and the copy's memory is new
            still = begun + waited + ended
            seconds = {"begun": begun, "waited": waited, "ended": ended, "still": still, "alone": alone}
            rows.append(seconds | {"step": beside[0], "in all": in_all(begun, beside, ended, alone)})
    foreground = [save() + timed(checkpoints.finish) for _ in range(words.saves)]
    files = sum(path.stat().st_size for path in (folder / Position(1, number).name).iterdir())
    again, before = make(), bytes_read()
    loaded = timed(lambda: checkpoint.load(again, folder, Position(1, number)))
    found = {
        "parameters": stack.parameters,
        "files": files,
        "saves": {name: [row[name] for row in rows] for name in rows[0]} | {"foreground": foreground},
        "written": checkpoints.seconds,
        "loaded": loaded,
        "read": bytes_read() - before,
    }
    (folder / f"rank-{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def in_all(begun: float, beside: Sequence[float], ended: float, alone: float) -> float:
    """The seconds that a save costs: to begin and end it, and what the steps beside it take longer than one alone."""
    return begun + sum(beside) - len(beside) * alone + ended


def slowest(ranks: list[dict]) -> dict[str, list[float]]:
    """The seconds of each save, by what was measured; of all ranks the most."""
    return {
        name: [max(of_ranks) for of_ranks in zip(*(rank["saves"][name] for rank in ranks), strict=True)]
        for name in ranks[0]["saves"]
    }


def figures(ranks: list[dict]) -> list[Figure]:
    seconds = slowest(ranks)

    def of_a_step(name: str, measured: str, at_most: float | None = None) -> Figure:
        values = results.ratios(seconds[measured], seconds["alone"])
        return Figure(f"{name} / of a step", values, at_most=at_most)

    return [
        of_a_step("seconds that training stands still for a save", "still", 0.05),
        of_a_step("seconds that a save costs in all", "in all"),
        of_a_step("seconds of a step with a save behind it", "step"),
        of_a_step("seconds that a save in the foreground costs", "foreground"),
    ]


def verdict(ranks: list[dict]) -> str:
    """Which costs less here, a save in the background or one in the foreground."""
    seconds = slowest(ranks)
    background, foreground = (statistics.median(seconds[name]) for name in ("in all", "foreground"))
    return BACKGROUND_LOSES if background > foreground else BACKGROUND_WINS


def report(ranks: list[dict]) -> None:
    """Print the figures; of the seconds those of the slowest rank."""
    rows = {name: statistics.median(values) for name, values in slowest(ranks).items()}
    alone, stands, foreground = rows["alone"], rows["still"], rows["foreground"]
    files = ranks[0]["files"]
    print(f"{ranks[0]['parameters'] / 1e6:.1f} M parameters, checkpoint of {files / 1e6:.0f} MB, {RANKS} replicas")
    print(f"a step: {alone:.2f} s alone, {rows['step']:.2f} s with a save behind it")
    begun, waited, ended = (f"{rows[name]:.2f} s" for name in ("begun", "waited", "ended"))
    print(f"training stood still for {stands:.2f} s a save, {stands / alone:.1%} of a step:")
    print(f"  {begun} to begin it, {waited} for the copy, {ended} to mark it complete")
    print(f"in all a save costs {rows['in all']:.2f} s, {rows['in all'] / alone:.1%} of a step")
    print(f"a save in the foreground: {foreground:.2f} s, {foreground / alone:.1%} of a step")
    print(verdict(ranks))
    share = ", ".join(f"{rank['read'] / files:.0%}" for rank in ranks)
    print(f"at a load the ranks read {share} of the checkpoint, in {max(rank['loaded'] for rank in ranks):.2f} s")
    arithmetic()


def arithmetic() -> None:
    """Print the same for a 32B model."""
    size = BYTES * LARGE
    copied, written = size / WRITERS / COPY, size / FILE_SYSTEM
    foreground = COLLECT + copied + written
    print(f"32B, {size / 1e9:.0f} GB, {WRITERS} ranks, steps of {STEP:.0f} s:")
    print(f"  training stands still for {COLLECT:.1f} s a save, {COLLECT / STEP:.1%} of a step;")
    print(f"  at the first two saves of a process for {COLLECT + PLAN:.1f} s, {(COLLECT + PLAN) / STEP:.1%}")
    print(f"  behind it {copied:.1f} s to copy and {written:.0f} s to write", end="; ")
    print(f"in the foreground {foreground:.0f} s, {foreground / STEP:.0%}")


def bytes_read() -> int:
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if "rchar" in line).split()[1])


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(guarded(main))
