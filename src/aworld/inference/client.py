"""The policy that a vLLM shard serves: token ids in, token ids out."""

import json
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from aworld.agents.protocols import Completion, Sampling
from aworld.errors import InfrastructureError
from aworld.inference.shard import VllmShard

LOWEST = -9999.0  # what vLLM writes for a log-probability of -inf


class VllmPolicy:
    """A Policy that a shard serves.

    Args:
        ends: ids of the tokens that end a turn.
    """

    def __init__(self, shard: VllmShard, ends: Sequence[int]):
        self.shard, self.ends = shard, ends
        self.vocabulary = _vocabulary(shard.policy)

    async def generate(self, prompt_ids: list[int], sampling: Sampling) -> Completion:
        """Sample one turn. A token that ends it is the last of its `token_ids`.

        Raises:
            InfrastructureError: the shard did not answer, or its answer cannot be trained on.
        """
        how = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": sampling.seed,
            "stop_token_ids": list(self.ends),
            "logprobs": 0,  # of the sampled token alone
            "detokenize": False,  # nobody reads its text
        }
        request = {"model": self.shard.name, "token_ids": prompt_ids, "sampling_params": how}
        version = self.shard.version
        try:
            choice = (await self.shard.complete(request))["choices"][0]
            token_ids = choice["token_ids"]
            logprobs = [each["logprob"] for each in choice["logprobs"]["content"]]
            check(token_ids, logprobs, self.vocabulary)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InfrastructureError(f"the vLLM shard failed: {error!r}; see {self.shard.log}") from error
        finish = "stop" if token_ids and token_ids[-1] in self.ends else "length"
        return Completion(token_ids, logprobs, finish, version)


def check(token_ids: list[int], logprobs: list[float], vocabulary: int) -> None:
    """Check a completion before it is stored.

    Raises:
        InfrastructureError: a token is outside the vocabulary, or has no log-probability of a sampled one.
    """
    if len(token_ids) != len(logprobs):
        raise InfrastructureError(f"vLLM gave {len(token_ids)} tokens and {len(logprobs)} log-probabilities")
    for token, logprob in zip(token_ids, logprobs, strict=True):
        if not 0 <= token < vocabulary:
            raise InfrastructureError(f"vLLM gave the token {token}, of a vocabulary of {vocabulary}")
        if not LOWEST < logprob < 1e-3:  # false for NaN; rounding may exceed 0 a little
            raise InfrastructureError(f"vLLM sampled the token {token} with a log-probability of {logprob}")


def _vocabulary(policy: Path) -> int:
    return int(json.loads((policy / "config.json").read_text())["vocab_size"])
