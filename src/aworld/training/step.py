"""The trainer: one model, its optimizer, and an optimizer step through Megatron's own schedule."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state, tensor_parallel
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.pipeline_parallel import get_forward_backward_func
from transformers import AutoConfig

from aworld.config import Training
from aworld.errors import TaskError
from aworld.training import batching, conversion, cpu, model, optimizer
from aworld.training.algorithms import Algorithm, MicroBatch, divergence
from aworld.training.collectives import broadcast, max_over, sum_over
from aworld.trajectories.arrays import Trajectories


class Trainer:
    """A policy in training, spread over the ranks that `model.initialize` joined; all ranks call every method.

    Args:
        path: HF folder of its architecture.
        dtype: `float32` or `bfloat16`, of weights and activations; gradients, Adam and log-probabilities are float32.
        lr: constant learning rate.
        has_weights: whether it begins with the weights in `path`; else with random ones, until a checkpoint is loaded.
    """

    def __init__(self, training: Training, path: Path, dtype: str, lr: float, has_weights: bool = True):
        self.training = training
        self.dtype: torch.dtype = getattr(torch, dtype)
        hf = AutoConfig.from_pretrained(path)
        config = model.transformer_config(hf, self.dtype)
        self.module = model.build(hf, config)
        if has_weights:
            conversion.load_hf(self.module, path)
        ddp = DistributedDataParallelConfig(grad_reduce_in_fp32=True, use_distributed_optimizer=True)
        self.model = DistributedDataParallel(config, ddp, self.module)
        # Weights of tokens add up to the loss already, so the count of tokens is not divided by.
        config.finalize_model_grads_func = lambda models, _tokens, **kwargs: finalize_model_grads(
            models, None, **kwargs
        )
        config.no_sync_func = self.model.no_sync
        self.schedule = get_forward_backward_func()
        self.new_optimizer(lr)

    def new_optimizer(self, lr: float) -> None:
        """Forget the moments of Adam and go on from the weights as they are, with another learning rate."""
        self.optimizer = optimizer.build(self.training, lr, self.model, self.dtype)
        self.module.config.grad_scale_func = self.optimizer.scale_loss

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(self, micro_batches: list[MicroBatch], algorithm: Algorithm, temperature: float = 1.0) -> dict[str, float]:
        """One optimizer step on this rank's micro-batches; the metrics are the whole step's, the same on every rank.

        Args:
            temperature: of the sampling; log-probabilities are of the distribution that was sampled from.

        Returns:
            `loss`; `grad_norm` before clipping; `tokens` trained; and as means over them: `entropy` (nats), the
            algorithm's own, and where it looks at the sampling policy μ `mismatch_mean` and `mismatch_max` of
            |log π − log μ| and `kl`, Schulman's k3 estimate of KL(μ‖π) (nats).

        Raises:
            TaskError: the loss or the gradient is not finite.
        """
        self.model.zero_grad_buffer()
        self.optimizer.zero_grad()
        metrics = _reduced(self._run(micro_batches, partial(_loss, algorithm), temperature))
        _, grad_norm, _ = self.optimizer.step()
        if not np.isfinite([metrics["loss"], grad_norm]).all():
            raise TaskError(
                f"training diverged: loss {metrics['loss']}, gradient norm {grad_norm}; begin a new run with a lower "
                "training.lr, from a policy of this one: model.path=RUN/policies/NNNN"
            )
        return metrics | {"grad_norm": float(grad_norm)}

    def logprobs(self, trajectories: Trajectories, micro_batch_size: int = 8) -> np.ndarray:
        """Log-probability (nats) of each sampled token under the policy, float32 [N]; 0 elsewhere.

        Every data-parallel replica computes all of it.
        """
        result = np.zeros(len(trajectories.tokens), np.float32)
        begins, ends, _ = trajectories.spans()
        contexts = np.array([c for c in range(len(begins)) if trajectories.mask[begins[c] + 1 : ends[c]].any()], int)
        cuts = [contexts[at : at + micro_batch_size] for at in range(0, len(contexts), micro_batch_size)]
        zeros = np.zeros(len(begins))
        batches = [batching.pad(trajectories, cut, zeros, zeros, cpu.device()) for cut in cuts]
        parts = [_broadcast_from_last_stage(part) for part in self._run(batches, _collect, 1.0, len(cuts))]
        for cut, values in zip(cuts, parts, strict=True):
            for begin, end, row in zip(begins[cut], ends[cut], values, strict=True):
                n = min(end - begin - 1, len(row))
                result[begin + 1 : begin + 1 + n] = row[:n]
        return result

    def _run(self, batches: list[MicroBatch], loss: Any, temperature: float, collect: int = 0) -> list[Any]:
        """Forward, and backward unless `collect`, of all micro-batches; what `loss` made of each (last stage only)."""
        parts = self.schedule(
            forward_step_func=partial(_forward, loss, temperature),
            data_iterator=iter(batches),
            model=[self.model],
            num_microbatches=len(batches),
            seq_length=0,  # variable_seq_lengths: stages tell each other
            micro_batch_size=0,
            forward_only=bool(collect),
        )
        return parts or [None] * max(collect, 1)


def _forward(loss: Any, temperature: float, batches: Iterator[MicroBatch], gpt: Any) -> tuple[torch.Tensor, Any]:
    batch = next(batches)
    positions = torch.arange(batch.tokens.shape[1] - 1, device=batch.tokens.device).expand(len(batch.tokens), -1)
    output = gpt(batch.tokens[:, :-1], positions, None)
    return output, partial(_after, loss, temperature, batch)


def _after(loss: Any, temperature: float, batch: MicroBatch, logits: torch.Tensor) -> Any:
    """logits [b, s, vocab / tensor ranks] → log-probabilities [b, s] and entropies [sampled] → the loss."""
    chosen = logits[batch.sampled].float()
    if temperature != 1:
        chosen = chosen / temperature
    entropy = _entropy(chosen.detach())
    # Overwrites `chosen`; adds a dimension because Megatron's shapes are [s, b, vocab].
    nll = tensor_parallel.vocab_parallel_cross_entropy(chosen[None], batch.tokens[:, 1:][batch.sampled][None])[0]
    logprobs = torch.zeros(batch.sampled.shape, device=nll.device).masked_scatter(batch.sampled, -nll)
    return loss(batch, logprobs, entropy)


@torch.no_grad()
def _entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy (nats) of softmax(logits) split over the tensor ranks; logits [n, vocab / ranks] → [n]."""
    group = parallel_state.get_tensor_model_parallel_group()
    highest = max_over(group, logits.amax(-1))
    shifted = logits - highest[:, None]
    p = shifted.exp()
    sums = sum_over(group, torch.stack([p.sum(-1), (p * shifted).sum(-1)]))
    return sums[0].log() - sums[1] / sums[0]


def _loss(algorithm: Algorithm, batch: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor) -> Any:
    per_token, metrics = algorithm.loss(logprobs, batch)
    loss = (per_token * batch.weights).sum()
    with torch.no_grad():
        trained = batch.weights > 0
        count = trained.sum()
        found = {"loss": loss.detach(), "tokens": count}
        means = {"entropy": torch.zeros_like(logprobs).masked_scatter(batch.sampled, entropy), **metrics}
        if "ratio" in metrics:
            difference = logprobs - batch.logprobs
            means["mismatch_mean"] = difference.abs()
            means["kl"] = divergence(logprobs, batch)
            found["mismatch_max"] = (difference.abs() * trained).amax()
        found |= {f"sum/{name}": (value * trained).sum() for name, value in means.items()}
    tokens = torch.zeros((), dtype=torch.int, device=loss.device)  # Megatron's count, which we do not divide by
    return loss, tokens, {name: value.float() for name, value in found.items()}


def _collect(batch: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor) -> Any:
    return logprobs.sum(), logprobs.detach().cpu().numpy()


def _reduced(parts: list[Any]) -> dict[str, float]:
    """Add up the micro-batches' metrics over data-parallel ranks, and tell all pipeline stages."""
    total: dict[str, float] | None = None
    if parts[0] is not None:
        names = sorted(parts[0])
        sums = [name for name in names if name != "mismatch_max"]
        added = torch.stack([torch.stack([part[name] for name in sums]) for part in parts]).double().sum(0)
        group = parallel_state.get_data_parallel_group()
        total = dict(zip(sums, sum_over(group, added).tolist(), strict=True))
        if "mismatch_max" in names:
            highest = torch.stack([part["mismatch_max"] for part in parts]).amax()
            total["mismatch_max"] = max_over(group, highest).item()
        total = {
            name.removeprefix("sum/"): value / total["tokens"] if name.startswith("sum/") else value
            for name, value in total.items()
        }
    result = _broadcast_from_last_stage(total)
    assert result is not None
    return result


def _broadcast_from_last_stage(value: Any) -> Any:
    if parallel_state.get_pipeline_model_parallel_world_size() == 1:
        return value
    last = parallel_state.get_pipeline_model_parallel_last_rank()
    return broadcast(value, last, parallel_state.get_pipeline_model_parallel_group())
