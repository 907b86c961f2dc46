#!/usr/bin/env python
"""FLOP/s and memory of the trainer's step on a few layers of Qwen3-32B, against the card's peak and plain matmuls.

    python benchmarks/mfu.py --layers 2 --tokens 4096      # on one GPU, 32 GB of its memory
    python benchmarks/mfu.py --shape tiny --tokens 64      # on a CPU: that it runs

One step is forward and backward of one micro-batch, and the optimizer; one process, no parallelism. Model FLOPs a token
are 6 × (parameters in matrices) + 6 × tokens × heads × head_dim × layers: of attention's scores the causal half; what
is computed again is not counted. MFU divides by the dense bf16 peak of the card. The bound measured beside it
multiplies plain bf16 matrices of the layers' shapes, forward and both backward products, and nothing else.
"""

import argparse
import gc
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from layer_stack import Stack, build, micro_batch

# FLOP/s, dense bf16, by the name that CUDA gives the card: of one chip there are forms with other peaks.
PEAKS = {
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L40S": 362e12,
}
TINY = {"hidden": 64, "ffn": 160, "heads": 8, "kv_heads": 2, "head_dim": 16, "vocab": 128, "context": 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=4096, help="of each context")
    parser.add_argument("--micro-batch", type=int, default=1, help="contexts in a step")
    parser.add_argument("--steps", type=int, default=5, help="that are timed, after one that is not")
    parser.add_argument("--recompute", choices=["none", "selective", "full"], default="none", help="model.recompute")
    parser.add_argument("--shape", choices=["32b", "tiny"], default="32b")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    words = parser.parse_args()
    stack = Stack(words.layers, **(TINY if words.shape == "tiny" else {}))
    if words.tokens > stack.context:
        parser.error(f"--tokens: at most {stack.context}")
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", str(_free_port()))
    found = measure(stack, words.tokens, words.micro_batch, words.steps, words.recompute)
    print(json.dumps(found) if words.json else _told(found))


def measure(stack: Stack, tokens: int, contexts: int, steps: int, recompute: str) -> dict[str, Any]:
    """The figures; FLOPs are of a step, seconds the median's, bytes of PyTorch's allocator (none on a CPU)."""
    import torch
    import torch.distributed as dist
    from step_memory import Memory

    from aworld.config import Parallel, Training
    from aworld.training import algorithms, cpu, model

    model.initialize(Parallel(), 0, 300)
    trainer, batch = build(stack, recompute=recompute), micro_batch(stack, tokens, contexts)
    assert sum(p.numel() for p in trainer.module.parameters()) == stack.parameters
    algorithm, memory = algorithms.make(Training()), Memory(trainer)
    seconds = []
    for _ in range(steps + 1):
        _wait()
        began = time.perf_counter()
        trainer.step([batch], algorithm)
        _wait()
        seconds.append(time.perf_counter() - began)
    with memory.watching():  # not timed: on a CPU it looks at each kept tensor
        trainer.step([batch], algorithm)
    median = sorted(seconds[1:])[steps // 2]
    is_gpu, flops = cpu.device().type == "cuda", contexts * stack.flops(tokens)
    fused, rows = trainer.module.config.bias_dropout_fusion, tokens * contexts
    device = torch.cuda.get_device_name() if is_gpu else "CPU"
    del trainer, memory.trainer  # the matmuls need room
    gc.collect()
    bound = matmul_flops_per_second(stack, rows, steps)
    peak = PEAKS.get(device)
    dist.destroy_process_group()
    return {
        "device": device,
        "transformer_engine": fused,
        "recompute": recompute,
        "layers": stack.layers,
        "tokens": tokens,
        "contexts": contexts,
        "parameters": stack.parameters,
        "flops": flops,
        "seconds": median,
        "flops_per_second": flops / median,
        "peak": peak,
        "mfu": flops / median / peak if peak else None,
        "matmul_flops_per_second": bound,
        "of_matmul": flops / median / bound,
        "predicted_state": stack.state_bytes,
        "predicted_kept": stack.kept_bytes(tokens, contexts, fused, recompute),
        "predicted_transient": stack.transient_bytes(rows, fused, recompute),
        **memory.found,
    }


def matmul_flops_per_second(stack: Stack, rows: int, times: int) -> float:
    """What plain bf16 matmuls of the layers' shapes reach: y = x·Wᵀ, dx = dy·W and dW = dyᵀ·x of each matrix."""
    import torch

    from aworld.training import cpu

    flops, seconds = 0, 0.0
    for n, k in stack.matmuls:
        shapes = (rows, k), (n, k), (rows, n)
        x, w, dy = (torch.randn(shape, dtype=torch.bfloat16, device=cpu.device()) for shape in shapes)
        for time_is_taken in [False] + [True] * times:
            _wait()
            began = time.perf_counter()
            x @ w.T, dy @ w, dy.T @ x
            _wait()
            if time_is_taken:
                seconds += time.perf_counter() - began
                flops += 6 * rows * n * k
    return flops / seconds


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _told(found: dict[str, Any]) -> str:
    te = "with" if found["transformer_engine"] else "without"
    flops, bound = found["flops_per_second"], found["matmul_flops_per_second"]
    size = f"{found['layers']} layers, {found['parameters'] / 1e6:.1f} M parameters"
    lines = [
        f"{found['device']}, {te} Transformer Engine: {size}, {found['contexts']} × {found['tokens']} tokens, "
        f"recompute {found['recompute']}",
        f"a step: {found['flops']:.4g} model FLOPs in {found['seconds']:.3f} s = {flops:.4g} FLOP/s",
        f"of plain matmuls of the same shapes ({bound:.4g} FLOP/s): {found['of_matmul']:.1%}",
        f"of the dense bf16 peak ({found['peak']:.4g} FLOP/s): MFU {found['mfu']:.1%}"
        if found["peak"]
        else "MFU: no peak is known for this device",
        f"kept for the backward pass: {found['kept'] / 1e9:.4g} GB, predicted {found['predicted_kept'] / 1e9:.4g} GB",
    ]
    if found["peak_backward"]:
        lines.append(
            f"at most: {max(found['peak_backward'], found['peak_optimizer']) / 1e9:.4g} GB, of which state "
            f"{found['state'] / 1e9:.4g} GB, predicted {found['predicted_state'] / 1e9:.4g} GB"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
