"""The tensors of one forward and backward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class MicroBatch:
    """Contexts of one optimizer step, packed behind each other in a row of T tokens, of which n predict a sampled one.

    With context parallelism the tensors are this rank's share. n is at least 1, as collectives on empty tensors are not
    portable: where nothing was sampled, there is one token of weight 0, in a context of its own.

    Attributes:
        tokens: int64 [T], the inputs.
        positions: int64 [T], of each input in its context.
        starts: where each of the c contexts begins in the whole row, and the row's length.
        at: int64 [n], the inputs whose outputs predict the sampled tokens.
        targets: int64 [n], the sampled tokens.
        logprobs: float32 [n], nats, of the sampled tokens under the policy that sampled them.
        advantages: float32 [n].
        weights: float32 [n], the share of each token in the step's loss.
        context: int64 [n], the context of each sampled token, from 0 to c − 1; c where nothing was sampled.
        places: int64 [n], of the sampled tokens in the round's `tokens`.
        reference: float32 [n], nats, of the sampled tokens under the reference policy; None where there is none.
        group: the ranks that share the contexts; None: this rank has all of them.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    starts: tuple[int, ...]
    at: torch.Tensor
    targets: torch.Tensor
    logprobs: torch.Tensor
    advantages: torch.Tensor
    weights: torch.Tensor
    context: torch.Tensor
    places: torch.Tensor
    reference: torch.Tensor | None = None
    group: dist.ProcessGroup | None = None

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over the sampled tokens of each context, float32 [c + 1]; differentiable, over all ranks of `group`.

        Args:
            values: float32 [n].
        """
        total = torch.zeros(len(self.starts), device=values.device).index_add(0, self.context, values)
        return total if self.group is None else _SumOverRanks.apply(total, self.group)


class _SumOverRanks(torch.autograd.Function):
    """The sum of all ranks' tensors. Every rank's loss depends on it, so that gradients are summed as well."""

    @staticmethod
    def forward(ctx, tensor, group):
        ctx.group = group
        total = tensor.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None
