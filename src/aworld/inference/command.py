"""How vLLM is started: its command line and environment, with GPUs or without."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from aworld.config import Model, Site
from aworld.containers import GPU_DRIVER
from aworld.processes import ON_CPU, STARTER

BATCHED_TOKENS = 2048  # vLLM's own choice on a CPU


def on_cpu(image: str = "") -> bool:
    """Whether vLLM has no GPU to use, here or in an image."""
    if not GPU_DRIVER.exists():
        return True
    if image:
        return False
    import torch

    return not torch.cuda.is_available()


def command(
    model: Model, policy: Path, name: str, socket: Path, without_gpu: bool, is_local: bool = False
) -> list[str]:
    """The command that serves the HF folder `policy` under a model name.

    Args:
        socket: path of the Unix socket that the server listens on.
        is_local: whether this and the later policies lie on this node. Files elsewhere are not mapped into memory:
            pages that are asked for in any order take a network file system minutes.
    """
    shard = model.shard
    options = {
        "--model": str(policy),
        "--served-model-name": name,
        "--uds": str(socket),
        "--dtype": model.dtype,
        "--max-model-len": str(shard.max_model_len),
        "--max-num-seqs": str(shard.max_num_seqs + 1),  # one for the question whether it still samples
        "--tensor-parallel-size": str(shard.tensor_parallel_size),
        # The model's own generation_config must not change the distribution behind our back.
        "--generation-config": "vllm",
        "--safetensors-load-strategy": "lazy" if is_local else "eager",
        "--logprobs-mode": "processed_logprobs",
        "--worker-extension-cls": "aworld.inference.reload.ReloadExtension",
    }
    flags = ["--enable-prefix-caching", "--disable-uvicorn-access-log", "--disable-log-stats", "--enable-scale-out"]
    if without_gpu:
        options["--kv-cache-memory-bytes"] = str(int(shard.kv_cache_gb * 2**30))
        # vLLM's CPU engine dies of a seeded request whose prompt it takes in several steps
        options["--max-num-batched-tokens"] = str(max(BATCHED_TOKENS, shard.max_model_len))
        flags += ["--enforce-eager", "--no-enable-chunked-prefill"]
        if shard.tensor_parallel_size == 1:  # engine and worker in one process: twice as fast on few cores
            options["--distributed-executor-backend"] = "uni"
    program = [sys.executable, "-m", "aworld.inference.serve"]
    return [*program, *(word for option in options.items() for word in option), *flags]


def environment(model: Model, site: Site, temporary: Path, without_gpu: bool) -> dict[str, str]:
    """The environment of the server.

    Args:
        temporary: folder for its sockets and files. vLLM leaves some of them behind, even after an orderly end.
    """
    env = dict(os.environ, HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1", VLLM_SERVER_DEV_MODE="1")
    env |= {STARTER: str(os.getpid()), "TMPDIR": str(temporary)}
    if own := own_gpus(env, model.shard.tensor_parallel_size):
        env["CUDA_VISIBLE_DEVICES"] = own
    if without_gpu:
        env |= {
            "OMP_NUM_THREADS": str(site.rollout.cpus_per_task),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # shards share the node's cores
            "TORCHDYNAMO_DISABLE": "1",
            ON_CPU: "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # without it the CPU platform replaces `uni` by `mp`
        }
    return env


def own_gpus(env: Mapping[str, str], count: int) -> str:
    """The `count` GPUs of this task, as CUDA_VISIBLE_DEVICES; "" where the variable is not set.

    Slurm shows every task of a node all the GPUs that the job has there.
    """
    visible = [device for device in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    first = int(env.get("SLURM_LOCALID", 0)) * count
    return ",".join(visible[first : first + count])
