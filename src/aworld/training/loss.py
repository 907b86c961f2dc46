"""From the logits of a micro-batch to the loss, and from micro-batches to the metrics of a step.

The logits of a pipeline are on its last stage, split over the tensor ranks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state, tensor_parallel

from aworld.training.algorithms import Algorithm, MicroBatch, divergence
from aworld.training.collectives import broadcast, max_over, sum_over

# From a micro-batch, its log-probabilities [b, s] and the entropies [sampled tokens] to what Megatron's schedule takes.
Loss = Callable[[MicroBatch, torch.Tensor, torch.Tensor], Any]


def apply_to_logits(loss: Loss, temperature: float, batch: MicroBatch, logits: torch.Tensor) -> Any:
    """The result of `loss` for a micro-batch.

    Args:
        temperature: that the tokens were sampled at.
        logits: float [b, s, vocab / tensor ranks].
    """
    chosen = logits[batch.sampled].float()
    if temperature != 1:
        chosen = chosen / temperature
    entropy = entropies(chosen.detach())
    # Overwrites `chosen`; adds a dimension because Megatron's shapes are [s, b, vocab].
    nll = tensor_parallel.vocab_parallel_cross_entropy(chosen[None], batch.tokens[:, 1:][batch.sampled][None])[0]
    logprobs = torch.zeros(batch.sampled.shape, device=nll.device).masked_scatter(batch.sampled, -nll)
    return loss(batch, logprobs, entropy)


@torch.no_grad()
def entropies(logits: torch.Tensor) -> torch.Tensor:
    """The entropy (nats) of each softmax(logits), [n], from logits that are split over the tensor ranks.

    Args:
        logits: float32 [n, vocab / tensor ranks].
    """
    group = parallel_state.get_tensor_model_parallel_group()
    highest = max_over(group, logits.amax(-1))
    shifted = logits - highest[:, None]
    p = shifted.exp()
    sums = sum_over(group, torch.stack([p.sum(-1), (p * shifted).sum(-1)]))
    return sums[0].log() - sums[1] / sums[0]


def policy_loss(
    algorithm: Algorithm, batch: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a micro-batch, Megatron's count of tokens, and metrics: sums over trained tokens, or the maximum."""
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
    tokens = torch.zeros((), dtype=torch.int, device=loss.device)  # not divided by
    return loss, tokens, {name: value.float() for name, value in found.items()}


def return_logprobs(
    batch: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor
) -> tuple[torch.Tensor, np.ndarray]:
    """In the place of a loss: the log-probabilities (nats) of a micro-batch, float32 [b, s]."""
    return logprobs.sum(), logprobs.detach().cpu().numpy()


def reduce_metrics(parts: list[Any]) -> dict[str, float]:
    """The metrics of a whole step on every rank: over all micro-batches, data-parallel ranks and pipeline stages.

    Args:
        parts: the metrics of each micro-batch of this rank; None before the last pipeline stage.
    """
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
    result = broadcast_from_last_stage(total)
    assert result is not None
    return result


def broadcast_from_last_stage(value: Any) -> Any:
    """The value that the last pipeline stage has."""
    if parallel_state.get_pipeline_model_parallel_world_size() == 1:
        return value
    last = parallel_state.get_pipeline_model_parallel_last_rank()
    return broadcast(value, last, parallel_state.get_pipeline_model_parallel_group())
