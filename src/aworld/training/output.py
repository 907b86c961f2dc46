"""Log-probabilities and entropies of sampled tokens, computed in chunks: no tensor holds the logits of a whole row.

The backward pass computes the logits again, but for those of the last chunks, with which it begins. Of these it has as
many as fit into `KEPT` bytes, and at least one.
"""

from typing import Any

import torch
from megatron.core import parallel_state

from aworld.training.collectives import max_over, sum_over

CHUNK = 1024  # tokens whose logits are computed at once
KEPT = 1 << 28  # bytes of float32 log-probabilities of the vocabulary that the forward pass leaves for backward


def logprobs_and_entropies(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """log softmax(W·h / temperature)[target] and the entropy of that distribution (nats): float32 [n] each.

    The vocabulary is split over the tensor ranks. The gradient of `hidden` is this rank's part of a sum over them.

    Args:
        hidden: [n, hidden size], the same on all tensor ranks.
        weight: [vocabulary / ranks, hidden size], of the output layer.
        targets: int64 [n].
    """
    return _Output.apply(hidden, weight, targets, temperature)


class _Output(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float) -> Any:
        group = parallel_state.get_tensor_model_parallel_group()
        ctx.set_materialize_grads(False)
        ctx.temperature = temperature
        own, inside = _own(targets, weight)
        found = hidden.new_empty(3, len(hidden), dtype=torch.float32)  # log-probability, entropy, log-sum-exp
        chunks = _chunks(hidden)
        first_kept = len(chunks) - _kept(weight) if any(ctx.needs_input_grad) else len(chunks)
        ctx.kept = []
        for number, at in enumerate(chunks):
            logits = _logits(hidden[at], weight, temperature)
            highest = max_over(group, logits.amax(-1))
            shifted = logits.sub_(highest[:, None])
            chosen = shifted.gather(1, own[at, None])[:, 0] * inside[at]
            exponential = shifted.exp()
            parts = [exponential.sum(-1), exponential.mul_(shifted).sum(-1), chosen]
            total, weighted, chosen = sum_over(group, torch.stack(parts))
            found[:, at] = torch.stack([chosen - total.log(), total.log() - weighted / total, highest + total.log()])
            if number >= first_kept:
                ctx.kept.append(shifted.sub_(total.log()[:, None]))
        ctx.save_for_backward(hidden, weight, own, inside, found[1], found[2])
        return found[0].clone(), found[1].clone()

    @staticmethod
    def backward(ctx: Any, of_logprobs: torch.Tensor | None, of_entropies: torch.Tensor | None) -> Any:
        hidden, weight, own, inside, entropy, normaliser = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden)
        of_weight: torch.Tensor | None = None
        for at in reversed(_chunks(hidden)):
            # The gradients of log-probability and entropy with respect to the logits before their division.
            one, other = (None if of is None else of[at, None] / ctx.temperature for of in (of_logprobs, of_entropies))
            if ctx.kept:
                log_p = ctx.kept.pop()
            else:
                log_p = _logits(hidden[at], weight, ctx.temperature).sub_(normaliser[at, None])
            gradient = _of_logits(log_p, entropy[at, None], one, other)
            if one is not None:
                gradient.scatter_add_(1, own[at, None], one * inside[at, None])
            gradient = gradient.to(weight.dtype)
            of_hidden[at] = gradient @ weight
            of_weight = _added(of_weight, gradient, hidden[at])
        assert of_weight is not None
        return of_hidden, of_weight.to(weight.dtype), None, None


def _of_logits(
    log_p: torch.Tensor, entropy: torch.Tensor, of_logprobs: torch.Tensor | None, of_entropies: torch.Tensor | None
) -> torch.Tensor:
    """−p · (of_logprobs + (log p + entropy) · of_entropies), computed in the place of `log_p` [tokens, vocabulary].

    The gradient of a token's own logit lacks `of_logprobs`.
    """
    if of_entropies is None:
        assert of_logprobs is not None
        return log_p.exp_().mul_(-of_logprobs)
    p = log_p.exp()
    factor = log_p.add_(entropy).mul_(-of_entropies)
    return p.mul_(factor if of_logprobs is None else factor.sub_(of_logprobs))


def _added(total: torch.Tensor | None, gradient: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The sum of a chunk's gradient of the weight and those of earlier chunks, in float32, in the place of `total`."""
    if total is None:
        return (gradient.T @ hidden).float()
    if gradient.dtype is total.dtype:
        return total.addmm_(gradient.T, hidden)
    return total.add_(gradient.T @ hidden)


def _own(targets: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The targets' rows in this rank's part of the vocabulary, int64 [n], and whether they are in it, float32 [n]."""
    size = len(weight)
    local = targets - parallel_state.get_tensor_model_parallel_rank() * size
    return local.clamp(0, size - 1), ((local >= 0) & (local < size)).float()


def _chunks(hidden: torch.Tensor) -> list[slice]:
    return [slice(at, min(at + CHUNK, len(hidden))) for at in range(0, len(hidden), CHUNK)]


def _kept(weight: torch.Tensor) -> int:
    """The number of chunks whose log-probabilities are kept."""
    return max(1, KEPT // (4 * CHUNK * len(weight)))


def _logits(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    logits = (hidden @ weight.T).float()
    return logits if temperature == 1 else logits.div_(temperature)
