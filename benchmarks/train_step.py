#!/usr/bin/env python
"""CPU seconds of the trainer's optimizer step, beside other trainers' on the same batch.

    python benchmarks/train_step.py --keep               # beside a plain loop of transformers; 3 minutes on one core
    python benchmarks/train_step.py --keep --rivals      # beside TRL's GRPO as well, which it installs; 9 minutes
    python benchmarks/train_step.py --layers 2 --hidden 64 --vocab 512 --repeats 1      # that it runs

All train one Qwen3 in float32 with GRPO's clipped loss, clip the gradient, and step AdamW. They take turns, and are
compared by CPU seconds. One batch has short episodes, the other long ones. The comparison fails where a loss or the
norm of a gradient differs.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

warnings.filterwarnings("ignore")
os.environ["OMP_NUM_THREADS"] = "1"  # as `aworld train` gives a rank

import numpy as np
import results
import rivals
import torch
from results import Figure
from transformers import Qwen3Config, Qwen3ForCausalLM

from aworld.training import cpu

cpu.spare_the_compiler()  # as a rank does, before Megatron is imported

from step_batch import ATTEMPTS, TASKS, Episode, episodes, hf_config, sampled_by

from aworld.config import Parallel, Training
from aworld.training import algorithms, batching, model
from aworld.training.packing import Split
from aworld.training.step import Trainer
from aworld.trajectories.arrays import Trajectories

TOGETHER = 4  # episodes in a padded batch
BATCHES = {"short": (48, 384), "long": (512, 1536)}  # the fewest and the most tokens of an episode
AGREE = 1e-4  # of losses and gradient norms
RANK = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}  # of this process alone
OURS = "trainer"
TRL = ["trl>=1,<2", f"torch=={torch.__version__.partition('+')[0]}"]
SAYS = (
    "All train one Qwen3 in float32 on one core with GRPO's clipped loss, clip the gradient and step AdamW. Their "
    "losses and norms of gradients are equal.",
    "The plain loop, with PyTorch's fused AdamW, pads four episodes to one length, or takes them one by one. The "
    "trainer packs them without padding, and never holds the logits of a whole batch.",
)


@dataclass(frozen=True)
class Made:
    """A step that was made: its loss, the norm of its gradient before clipping, and CPU seconds."""

    loss: float
    norm: float
    seconds: float


Step = Callable[[], Made]


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
    python = rivals.environment("trl", TRL) if arguments.rivals else None
    hf = hf_config(arguments.layers, arguments.hidden, arguments.vocab)
    join_alone()
    figures: list[Figure] = []
    for name in arguments.batches:
        with tempfile.TemporaryDirectory() as folder:
            figures += measure(name, hf, Path(folder), arguments.repeats, python)
    if arguments.keep:
        packages = ["torch", "transformers", "megatron-core", *(rivals_versions(python) if python else [])]
        model_is = (
            f"a Qwen3 of {arguments.layers} layers, hidden size {arguments.hidden}, vocabulary {arguments.vocab:,}"
        )
        title = f"Training step of {model_is}" + (", beside TRL" if python else "")
        results.keep("train_step" + ("-rivals" if python else ""), title, SAYS, figures, packages)
    else:
        results.Console().print(results.table("Training step", figures))


def measure(name: str, hf: Qwen3Config, path: Path, repeats: int, python: Path | None) -> list[Figure]:
    """The figures of one batch.

    Args:
        name: of the batch, a key of BATCHES.
        path: an empty folder.
        python: of the environment that has TRL; None to leave it out.

    Raises:
        RuntimeError: not all train on the same loss, so a comparison would mean nothing.
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
    others = {
        "transformers, padded": (sys.executable, "transformers_step.py", path, TOGETHER),
        "transformers, one by one": (sys.executable, "transformers_step.py", path, 1),
    }
    if python:
        others["TRL, padded"] = (str(python), "trl_step.py", path, TOGETHER)
        others["TRL, one by one"] = (str(python), "trl_step.py", path, 1)
    with ExitStack() as stack:
        steps = {name: stack.enter_context(stepping(*other)) for name, other in others.items()}
        seconds = timed({OURS: ours(trainer, trajectories, longest), **steps}, repeats)
    tokens, parameters = len(trajectories.tokens), sum(p.numel() for p in trainer.module.parameters())
    print(f"{name}: {parameters / 1e6:.1f} M parameters, {len(batch)} episodes, {tokens} tokens")
    for contender, spent in seconds.items():
        print(f"  {contender}: {tokens / median(spent):.0f} tokens/s, {median(spent):.2f} CPU seconds a step")
    of = f"{len(batch)} episodes of {shortest} to {longest} tokens"
    return [
        Figure(f"tokens/s, by those of {contender}; {of}", results.ratios(spent, seconds[OURS]), at_least=1.0)
        for contender, spent in seconds.items()
        if contender != OURS
    ]


def timed(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """The CPU seconds of steps that alternate, after one of each that is not timed.

    Raises:
        RuntimeError: a loss or the norm of a gradient differs from the trainer's.
    """
    made: dict[str, list[Made]] = {name: [] for name in steps}

    def seconds_of(name: str) -> float:
        made[name].append(steps[name]())
        return made[name][-1].seconds

    one_by_name = {name: (lambda name=name: seconds_of(name)) for name in steps}
    results.alternate(1, **one_by_name)
    seconds = results.alternate(repeats, **one_by_name)
    values = {name: [(one.loss, one.norm) for one in every] for name, every in made.items()}
    if not all(np.allclose(found, values[OURS], atol=AGREE, rtol=AGREE) for found in values.values()):
        raise RuntimeError(f"loss and gradient norm differ: {values}")
    return seconds


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


@contextmanager
def stepping(python: str | Path, script: str, path: Path, together: int) -> Iterator[Step]:
    """The step of a script in rivals/, which runs in a process of its own and makes one for each line that it reads."""
    command = [str(python), str(rivals.SCRIPTS / script), str(path), str(together)]
    env = {name: value for name, value in os.environ.items() if name not in RANK}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        asks, answers = process.stdin, process.stdout

        def step() -> Made:
            print(file=asks, flush=True)
            for line in answers:
                if line.startswith('{"loss"'):  # libraries print as well
                    return Made(**json.loads(line))
            raise RuntimeError(f"{script} ended with exit code {process.wait()}")

        yield step
        asks.close()


def rivals_versions(python: Path) -> list[str]:
    """`trl==…` and its transformers, of the environment."""
    says = "from importlib.metadata import version; print(version('trl'), version('transformers'))"
    found = subprocess.run([python, "-c", says], capture_output=True, text=True, check=True).stdout.split()
    return [f"{name}=={version}" for name, version in zip(("trl", "trl's transformers"), found, strict=True)]


if __name__ == "__main__":
    main()
