"""A vLLM of one shard: sample from a policy, load another in place, sample again."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from learned import prompts

from aworld.agents.protocols import Completion, Sampling

SEEDS, MAX_TOKENS = 8, 64


@dataclass(frozen=True)
class Sample:
    prompt: list[int]
    completion: Completion


@dataclass(frozen=True)
class Process:
    """A process of a vLLM.

    Attributes:
        visible: its CUDA_VISIBLE_DEVICES; None: not set.
        devices: what it holds open of /dev/nvidia*.
    """

    visible: str | None
    devices: frozenset[str]


@dataclass(frozen=True)
class Served:
    """Samples of the first policy, samples of the second, and vLLM's processes."""

    before: list[Sample]
    after: list[Sample]
    processes: list[Process]


async def serve(model, first: Path, second: Path, log: Path) -> Served:
    """`model`: the configuration's; it is served in bf16."""
    import psutil

    from aworld.agents.chat import ChatFormat
    from aworld.inference.client import VllmPolicy
    from aworld.inference.shard import VllmShard

    chat = ChatFormat(first)
    async with VllmShard(first, 0, replace(model, dtype="bfloat16"), log) as server:
        policy = VllmPolicy(server, chat.ends)

        async def sample() -> list[Sample]:
            wanted = [(p, Sampling(max_tokens=MAX_TOKENS, seed=seed)) for p in prompts(first) for seed in range(SEEDS)]
            found = await asyncio.gather(*(policy.generate(*one) for one in wanted))
            return [Sample(prompt, completion) for (prompt, _), completion in zip(wanted, found, strict=True)]

        before = await sample()
        assert server.process
        root = psutil.Process(server.process.pid)
        processes = []
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, FileNotFoundError):  # a helper that has just ended
                processes.append(_seen(process))
        await server.load(second, 1)
        return Served(before, await sample(), processes)


def _seen(process) -> Process:
    links = []
    for fd in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            links.append(str(fd.readlink()))
        except OSError:  # closed since
            continue
    devices = frozenset(link for link in links if link.startswith("/dev/nvidia"))
    return Process(process.environ().get("CUDA_VISIBLE_DEVICES"), devices)


def differences(folder: Path, samples: list[Sample]):
    """|vLLM's log-probability − that of transformers in float32 on the CPU| of each sampled token, nats."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = []
    for sample in samples:
        ids = torch.tensor(sample.prompt + sample.completion.token_ids)
        with torch.no_grad():
            logits = model(ids[None]).logits[0, len(sample.prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, ids[len(sample.prompt) :, None])[:, 0]
        found.append((torch.tensor(sample.completion.logprobs) - expected).abs())
    return torch.cat(found)


def write(path: Path, samples: list[Sample]) -> None:
    """The samples as a file of trajectories: an episode each."""
    import numpy as np

    from aworld.trajectories import arrays, file

    rows = np.zeros(len(samples), arrays.COLUMNS)
    rows["task_id"], rows["status"], rows["attempt"] = b"task", b"answered", np.arange(len(samples))
    parts: list[tuple[list[int], list[int], list[float]]] = []
    for sample in samples:
        prompt, done = sample.prompt, sample.completion
        mask = [0] * len(prompt) + [1] * len(done.token_ids)
        parts.append((prompt + done.token_ids, mask, [0.0] * len(prompt) + done.logprobs))
    tokens, masks, logprobs = (
        np.concatenate([np.array(part[i], dtype) for part in parts])
        for i, dtype in enumerate((np.int32, np.uint8, np.float32))
    )
    offsets = arrays.offsets_of(np.array([len(part[0]) for part in parts]))
    file.write(path, arrays.Trajectories(1, tokens, masks, logprobs, offsets, rows))
