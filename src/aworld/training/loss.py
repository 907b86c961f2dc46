"""From the hidden states of a micro-batch to the loss, and from micro-batches to the metrics of a step.

The hidden states of a pipeline's end are on its last stage.
"""

from collections.abc import Callable
from typing import Any

import torch
from megatron.core import parallel_state, tensor_parallel

from aworld.training.algorithms import Algorithm, divergence
from aworld.training.collectives import broadcast, max_over, sum_over
from aworld.training.micro_batch import MicroBatch
from aworld.training.model import Policy
from aworld.training.output import logprobs_and_entropies

# From a micro-batch, its log-probabilities and the entropies [n] to what Megatron's schedule takes.
Loss = Callable[[MicroBatch, torch.Tensor, torch.Tensor], Any]


def apply_to_hidden(loss: Loss, temperature: float, batch: MicroBatch, policy: Policy, hidden: torch.Tensor) -> Any:
    """The result of `loss` for a micro-batch.

    Args:
        temperature: that the tokens were sampled at.
        hidden: float [T, 1, hidden size]; [T / tensor ranks, 1, hidden size] with sequence parallelism.
    """
    if policy.config.sequence_parallel:
        hidden = tensor_parallel.gather_from_sequence_parallel_region(hidden)
    else:
        hidden = tensor_parallel.copy_to_tensor_model_parallel_region(hidden)
    return loss(batch, *logprobs_and_entropies(hidden[batch.at, 0], policy.output_weight, batch.targets, temperature))


def policy_loss(
    algorithm: Algorithm, batch: MicroBatch, logprobs: torch.Tensor, entropy: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a micro-batch, Megatron's count of tokens, and metrics: sums over trained tokens, or the maximum."""
    per_token, metrics = algorithm.loss(logprobs, entropy, batch)
    loss = (per_token * batch.weights).sum()
    with torch.no_grad():
        trained = batch.weights > 0
        count = trained.sum()
        found = {"loss": loss.detach(), "tokens": count}
        means = {"entropy": entropy.detach(), **metrics}
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
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """In the place of a loss: the places of sampled tokens, int64 [m], and their log-probabilities (nats), [m]."""
    sampled = batch.context < len(batch.starts) - 1
    return logprobs.sum(), (batch.places[sampled], logprobs.detach()[sampled])


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
        group = parallel_state.get_data_parallel_group(with_context_parallel=True)
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
