"""Contexts whose tokens are shared by two ranks have the loss and the gradient that one process finds."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.engine

PROGRAM = """
import sys
from datetime import timedelta
import torch
import torch.distributed as dist
from aworld.config import Training
from aworld.training import algorithms
from aworld.training.micro_batch import MicroBatch

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=60)
)
torch.manual_seed(0)
context = torch.repeat_interleave(torch.arange(5), torch.tensor([1, 9, 4, 12, 7]))
old = -torch.rand(len(context)) * 3
new = old + torch.randn(len(context)) * 0.3
advantages, weights = torch.randn(5)[context], (torch.rand(5) / 10)[context]
none, starts = torch.zeros(len(context), dtype=torch.long), torch.arange(6, dtype=torch.int32)
whole = dict(places=old, logprobs=old, advantages=advantages, weights=weights, context=context)
mine = torch.arange(len(context)) % 3 == 0 if rank else torch.arange(len(context)) % 3 != 0

def gradients(algorithm, rows, group):
    part = MicroBatch(none, none, starts, none, none, group=group, **{k: v[rows] for k, v in whole.items()})
    leaf = new[rows].clone().requires_grad_()
    loss, metrics = algorithm.loss(leaf, torch.zeros_like(leaf), part)
    (loss * part.weights).sum().backward()
    return loss.detach(), leaf.grad, *metrics.values()

found = {}
for name in algorithms.names():
    for ratio in ("product", "mean") if name != "sft" else (None,):
        options = {"mask_ratio": ratio, "mask_below": 0.9, "mask_above": 1.5} if ratio else {}
        algorithm = algorithms.make(Training(algorithm=name, options=options, clip_low=0.05, clip_high=0.1))
        one = gradients(algorithm, torch.ones(len(context), dtype=torch.bool), None)
        found[name, ratio] = [part[mine] for part in one], gradients(algorithm, mine, dist.group.WORLD)
torch.save(found, f"{folder}/{rank}.pt")
"""


def test_two_ranks_find_what_one_process_finds(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM]
    ranks = [subprocess.Popen([*words, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)]
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    for rank in (0, 1):
        cases = torch.load(tmp_path / f"{rank}.pt")
        assert len(cases) == 15
        for one, split in cases.values():
            assert any(part.any() for part in one)
            torch.testing.assert_close(tuple(split), tuple(one), atol=1e-6, rtol=1e-5)
