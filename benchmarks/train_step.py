#!/usr/bin/env python
"""CPU seconds of the trainer's optimizer step, beside other trainers' on the same batch.

    python benchmarks/train_step.py --keep               # beside a plain loop of transformers; 3 minutes on one core
    python benchmarks/train_step.py --keep --rivals      # beside TRL's GRPO as well, which it installs; 9 minutes
    python benchmarks/train_step.py --layers 2 --hidden 64 --vocab 512 --repeats 1      # that it runs

All train one Qwen3 in float32 with GRPO's clipped loss, clip the gradient, and step AdamW. They take turns, and are
compared by CPU seconds. One batch has short episodes, the other long ones. The comparison fails where a loss or the
norm of a gradient of the plain loop differs; TRL is left out then, as it is where it fails.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from statistics import median

warnings.filterwarnings("ignore")
os.environ["OMP_NUM_THREADS"] = "1"  # as `aworld train` gives a rank

import results
import rivals
import torch
from results import Figure
from transformers import Qwen3Config, Qwen3ForCausalLM

from aworld.training import cpu

cpu.spare_the_compiler()  # as a rank does, before Megatron is imported

from contenders import AGREE, Made, Step, stepping, timed
from step_batch import ATTEMPTS, TASKS, Episode, episodes, hf_config, sampled_by

from aworld.config import Parallel, Training
from aworld.errors import InfrastructureError, TaskError, guarded
from aworld.training import algorithms, batching, model
from aworld.training.packing import Split
from aworld.training.step import Trainer
from aworld.trajectories.arrays import Trajectories

TOGETHER = 4  # episodes in a padded batch
BATCHES = {"short": (48, 384), "long": (512, 1536)}  # the fewest and the most tokens of an episode
RANK = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}  # of this process alone
OURS, PLAIN = "trainer", "transformers"
TRL = ["trl>=1,<2", f"torch=={torch.__version__.partition('+')[0]}"]
SAYS = (
    "All train one Qwen3 in float32 on one core with GRPO's clipped loss, clip the gradient and step AdamW. Their "
    f"losses and norms of gradients are equal to {AGREE:g}.",
    "The plain loop, with PyTorch's fused AdamW, pads four episodes to one length, or takes them one by one. It takes "
    "no logits before the end of the shortest prompt. The trainer packs episodes without padding, and keeps at most "
    "256 MiB of logits.",
    "The trainer lets the C library keep freed memory; the others run with its defaults.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=256, help="a multiple of 64")
    parser.add_argument("--vocab", type=int, default=8192, help="a quarter of the products, as in Qwen3-0.6B")
    parser.add_argument("--batches", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=3, help="that are timed, after one that is not")
    parser.add_argument("--rivals", action="store_true", help="measure TRL beside them")
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    arguments = parser.parse_args()
    if arguments.hidden % 64:
        parser.error(f"--hidden {arguments.hidden} is no multiple of 64")
    says = list(SAYS)
    python = trl(says) if arguments.rivals else None
    hf = hf_config(arguments.layers, arguments.hidden, arguments.vocab)
    join_alone()
    figures: list[Figure] = []
    for name in arguments.batches:
        with results.progress(f"the {name} batch"), tempfile.TemporaryDirectory() as folder:
            found, left_out = measure(name, hf, Path(folder), arguments.repeats, python)
        figures += found
        says += left_out
    title = f"Training step of a Qwen3 of {arguments.layers} layers, hidden size {arguments.hidden}"
    title += f", vocabulary {arguments.vocab:,}" + (", beside TRL" if python else "")
    if arguments.keep:
        of_trl = [rivals.version(python, "trl"), f"trl's {rivals.version(python, 'transformers')}"] if python else []
        packages = ["torch", "transformers", "megatron-core", *of_trl]
        results.keep("train_step" + ("-rivals" if arguments.rivals else ""), title, says, figures, packages)
    else:
        results.Console().print(results.table(title, figures), *says, sep="\n")


def trl(says: list[str]) -> Path | None:
    """The Python that has TRL; None, and a sentence more in `says`, where it cannot be installed."""
    try:
        return rivals.environment("trl", TRL)
    except InfrastructureError as reason:
        print(reason, file=sys.stderr)
        says.append("TRL is left out: pip did not install it.")
        return None


def measure(
    name: str, hf: Qwen3Config, path: Path, repeats: int, python: Path | None
) -> tuple[list[Figure], list[str]]:
    """The figures of one batch, and sentences on who is left out.

    Args:
        name: of the batch, a key of BATCHES.
        path: an empty folder.
        python: of the environment that has TRL; None to leave it out.

    Raises:
        TaskError: the plain loop failed, or trains on another loss, so a comparison would mean nothing.
    """
    shortest, longest = BATCHES[name]
    training = Training(
        clip_low=0.2, clip_high=0.2, lr=1e-6, batch_size=TASKS * ATTEMPTS, micro_batch_tokens=TOGETHER * longest
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(hf).save_pretrained(path)
    trainer = Trainer(training, path, "float32", training.lr)
    trajectories = sampled_by(trainer, hf.vocab_size, shortest, longest)
    batch = episodes(trajectories, training)
    write_batch(path, batch, training)
    programs = {PLAIN: (sys.executable, "transformers_step.py")}
    if python:
        programs["TRL"] = (str(python), "trl_step.py")
    commands = {
        f"{contender}, {how}": [python, str(rivals.SCRIPTS / script), str(path), str(together)]
        for contender, (python, script) in programs.items()
        for how, together in (("padded", TOGETHER), ("one by one", 1))
    }
    env = {name: value for name, value in os.environ.items() if name not in RANK}
    with ExitStack() as stack:
        others = {name: stack.enter_context(stepping(command, env)) for name, command in commands.items()}
        seconds, faults = timed({OURS: ours(trainer, trajectories, longest), **others}, repeats, OURS)
    for contender, reason in faults.items():
        if contender.startswith(PLAIN):
            raise TaskError(f"{contender}: {reason}")
    tokens, parameters = len(trajectories.tokens), sum(p.numel() for p in trainer.module.parameters())
    print(f"{name}: {parameters / 1e6:.1f} M parameters, {len(batch)} episodes, {tokens} tokens")
    for contender, spent in seconds.items():
        print(
            f"  {contender}: {tokens / median(spent):.0f} tokens per CPU second, {median(spent):.2f} CPU seconds a step"
        )
    of = f"{len(batch)} episodes of {shortest} to {longest} tokens"
    figures = [
        Figure(
            f"tokens per CPU second, ours / {contender}; {of}",
            results.ratios(seconds[contender], seconds[OURS]),
            at_least=1.0,
        )
        for contender in others
        if contender in seconds
    ]
    return figures, [f"{contender}, is left out for {of}: {reason}." for contender, reason in faults.items()]


def join_alone() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    os.environ |= RANK | {"MASTER_PORT": str(port)}
    model.initialize(Parallel(), 0, 300)


def ours(trainer: Trainer, trajectories: Trajectories, longest: int) -> Step:
    """The trainer's own step; packing is part of it."""
    training, algorithm = trainer.training, algorithms.make(trainer.training)

    def step() -> Made:
        began = time.process_time()
        (planned,) = batching.steps(
            trajectories,
            algorithm,
            batch_size=training.batch_size,
            micro_batch_tokens=training.micro_batch_tokens,
            max_tokens=longest,
            data_parallel=1,
            seed=(0,),
        )
        metrics = trainer.step(batching.micro_batches(trajectories, planned, 0, Split.here(), cpu.device()), algorithm)
        return Made(metrics["loss"], metrics["grad_norm"], time.process_time() - began)

    return step


def write_batch(path: Path, batch: list[Episode], training: Training) -> None:
    """Write batch.pt for the scripts in rivals/."""
    adam = {"lr": training.lr, "betas": (training.adam_beta1, training.adam_beta2), "eps": training.adam_eps}
    given = {"adam": adam | {"weight_decay": training.weight_decay}, "clip_grad": training.clip_grad}
    rows = [vars(row) for row in batch]
    torch.save(given | {"rows": rows, "clip": training.clip_high, "attempts": ATTEMPTS}, path / "batch.pt")


if __name__ == "__main__":
    sys.exit(guarded(main))
